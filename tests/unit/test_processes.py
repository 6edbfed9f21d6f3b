"""Processes as /proc tells of them, whatever they call themselves and carry along."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until

from canhazgpu.events.processes import Process, marked, start_of, tree


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name looks like the end of a name and fields behind it."""
    program = tmp_path / "a) R 1 (b"
    shutil.copy(shutil.which("sleep") or "", program)
    environment = {"CANHAZGPU_RESERVATION": "r7-1"}
    with subprocess.Popen([program, "600"], env=environment) as process:
        until(lambda: "a) R 1 (b" in Path(f"/proc/{process.pid}/stat").read_text())
        yield process
        process.kill()


def test_a_name_that_looks_like_fields(odd: subprocess.Popen[bytes]) -> None:
    """When it began and whose child it is are read from behind its name."""
    start = start_of(odd.pid)
    assert start is not None
    assert start > 1000 or start == int(
        Path(f"/proc/{odd.pid}/stat").read_text().rpartition(") ")[2].split()[19]
    )
    own = start_of(os.getpid())
    assert own is not None
    assert Process(odd.pid, start) in tree(Process(os.getpid(), own))


def test_what_carries_a_reservation_is_found(odd: subprocess.Popen[bytes]) -> None:
    """By the whole value, and only among the processes of that user."""
    found = Process(odd.pid, start_of(odd.pid) or 0)
    assert marked(b"CANHAZGPU_RESERVATION", b"r7-1", os.getuid()) == [found]
    assert marked(b"CANHAZGPU_RESERVATION", b"r7", os.getuid()) == []
    assert marked(b"CANHAZGPU_RESERVATION", b"r7-1", os.getuid() + 1) == []
