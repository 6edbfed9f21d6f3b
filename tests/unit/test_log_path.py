"""The path of the audit log, and which other files it reads."""

import os
import time
from pathlib import Path

import pytest

from canhazgpu.notifiers.audit_log.writer import AuditLog

LINE = b'{"id": "1-1"}\n'


def test_a_symlink_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """The log is never written through a symbolic link."""
    victim, path = tmp_path / "victim", tmp_path / "violations.log"
    victim.write_text("mine")
    path.symlink_to(victim)
    log = AuditLog(path)
    with pytest.raises(OSError, match=r"symbolic|loop|Too many"):
        log.append("1-1", LINE)
    log.close()
    assert victim.read_text() == "mine"


def test_an_old_rotated_log_is_not_read(tmp_path: Path) -> None:
    """Only recently rotated files are read, because only they could hold an unacknowledged fact."""
    old = tmp_path / "violations.log.3"
    old.write_bytes(LINE)
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    log = AuditLog(tmp_path / "violations.log")
    assert log.append("1-1", LINE)
    log.close()
