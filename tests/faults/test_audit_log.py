"""The audit log: each fact once, whole lines only, through rotation, full disks and sudden deaths."""

import contextlib
import errno
import functools
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use

from canhazgpu.notifiers.log import AuditLog


def _line(entry_id: str, more: str = "") -> bytes:
    return json.dumps({"id": entry_id, "more": more}).encode() + b"\n"


def _ids(*paths: Path) -> list[str]:
    return [json.loads(line)["id"] for path in paths for line in path.read_bytes().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    """A log that is not there yet."""
    made = AuditLog(tmp_path / "violations.log")
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 kB."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_repeated_fact_is_written_once(log: AuditLog) -> None:
    """The second time says so, also after the log was opened anew."""
    assert log.append("1-1", _line("1-1"))
    assert not log.append("1-1", _line("1-1"))
    log.close()
    again = AuditLog(log.path)
    assert not again.append("1-1", _line("1-1"))
    assert again.append("1-2", _line("1-2"))
    again.close()
    assert _ids(log.path) == ["1-1", "1-2"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_rotation_between_writing_and_acknowledging_doubles_nothing(
    log: AuditLog, *, compressed: bool
) -> None:
    """A restarted writer finds the fact in the file it was rotated to, compressed or not."""
    log.append("1-1", _line("1-1"))
    rotated = log.path.with_name("violations.log.1")
    log.path.rename(rotated)
    if compressed:
        packed = log.path.with_name("violations.log.1.gz")
        packed.write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
    log.close()
    again = AuditLog(log.path)
    assert not again.append("1-1", _line("1-1"))
    assert again.append("1-2", _line("1-2"))
    again.close()
    assert _ids(log.path) == ["1-2"]


def test_the_next_line_after_a_rotation_is_in_the_new_file(log: AuditLog) -> None:
    """Renamed away under an open writer, the log begins anew; the old file is left as it was."""
    log.append("1-1", _line("1-1"))
    rotated = log.path.rename(log.path.with_name("violations.log.1"))
    assert not log.append("1-1", _line("1-1"))
    log.append("1-2", _line("1-2"))
    assert _ids(rotated) == ["1-1"]
    assert _ids(log.path) == ["1-2"]


def test_logrotate_with_the_shipped_style_loses_nothing(log: AuditLog) -> None:
    """`create`: an empty file stands in the log's place at once; it is written to."""
    log.append("1-1", _line("1-1"))
    log.path.rename(log.path.with_name("violations.log.1"))
    log.path.touch(0o640)
    log.append("1-2", _line("1-2"))
    assert _ids(log.path) == ["1-2"]


def test_a_torn_last_line_is_mended(log: AuditLog) -> None:
    """What a writer left half written is cut off, and can be written again whole."""
    log.append("1-1", _line("1-1"))
    log.close()
    with log.path.open("ab") as file:
        file.write(_line("1-2")[:9])
    again = AuditLog(log.path)
    assert again.append("1-2", _line("1-2"))
    again.close()
    assert _ids(log.path) == ["1-1", "1-2"]


def test_a_full_disk_leaves_whole_lines_and_lets_try_again(small_disk: Path) -> None:
    """On ENOSPC nothing of the line stays; when there is room again the same line can be written."""
    log = AuditLog(small_disk / "violations.log")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 8000)
    written = 0
    with contextlib.suppress(OSError):
        while log.append(f"1-{written}", _line(f"1-{written}", "y" * 1000)):
            written += 1
    with pytest.raises(OSError, match=r"space|bytes could be written") as raised:
        log.append(f"1-{written}", _line(f"1-{written}", "y" * 1000))
    assert raised.value.errno == errno.ENOSPC
    assert _ids(log.path) == [f"1-{number}" for number in range(written)]
    ballast.unlink()
    assert log.append(f"1-{written}", _line(f"1-{written}", "y" * 1000))
    log.close()
    assert _ids(small_disk / "violations.log") == [f"1-{number}" for number in range(written + 1)]


def test_the_service_waits_for_a_full_disk_and_then_writes_everything(folder: Path, small_disk: Path) -> None:
    """Violations while the disk is full are in the log once there is room, each fact once."""
    path = small_disk / "violations.log"
    ballast = small_disk / "ballast"
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace(f"{folder}/violations.log", str(path)))
    daemon.start()
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 16384)
    daemon.place(gpu(0, use(999_999, 1024, "bob", "python3")))
    until(lambda: b"audit_log_not_written" in daemon.log.read_bytes(), 10)
    daemon.place(gpu(0, memory_used_mb=45))
    until(lambda: not json.loads(daemon.run("violations", "--open", "--json").stdout), 5)
    ballast.unlink()
    lines = until(
        lambda: path.exists() and len(path.read_bytes().splitlines()) == 2 and path.read_bytes(), 15
    )
    types = [json.loads(line)["type"] for line in lines.splitlines()]
    assert types == ["canhazgpu.violation.opened", "canhazgpu.violation.closed"]
    assert daemon.stop() == 0


WRITER = """
import sys
from pathlib import Path
from canhazgpu.notifiers.log import AuditLog
import json
log = AuditLog(Path(sys.argv[1]))
for number in range(100000):
    entry = f"1-{number}"
    log.append(entry, json.dumps({"id": entry, "more": "y" * 2000}).encode() + b"\\n")
"""


def _longer_than(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


def test_a_writer_killed_at_any_moment_leaves_each_fact_once(tmp_path: Path) -> None:
    """Killed a dozen times, starting over each time: no line twice, none torn, none missing."""
    path = tmp_path / "violations.log"
    before = 0
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        until(functools.partial(_longer_than, path, before + 20_000), 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = path.stat().st_size
    whole = path.read_bytes()
    ids = [json.loads(line)["id"] for line in whole[: whole.rfind(b"\n") + 1].splitlines()]
    assert ids == [f"1-{number}" for number in range(len(ids))]


def test_a_second_writer_is_told_so(log: AuditLog) -> None:
    """Two processes never write to one log at the same time."""
    log.append("1-1", _line("1-1"))
    other = AuditLog(log.path)
    with pytest.raises(BlockingIOError, match="another process writes this log"):
        other.append("1-2", _line("1-2"))
    log.close()
    assert other.append("1-2", _line("1-2"))
    other.close()


def test_a_symlink_in_its_place_is_not_followed(log: AuditLog, tmp_path: Path) -> None:
    """The log is never written through a link."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    log.path.symlink_to(victim)
    with pytest.raises(OSError, match=r"symbolic|loop|Too many"):
        log.append("1-1", _line("1-1"))
    assert victim.read_text() == "mine"


def test_an_old_rotated_log_is_not_read(log: AuditLog) -> None:
    """Only what was rotated lately could hold an unacknowledged fact."""
    old = log.path.with_name("violations.log.3")
    old.write_bytes(_line("1-1"))
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    assert log.append("1-1", _line("1-1"))
