"""Facts about processes from /proc, whatever their names and environment."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.descriptors import none_left

from canhazgpu.events.linux.processes import Process, open_process, process_tree, start_time_of, with_variable
from canhazgpu.events.reservations import Record
from canhazgpu.service.recovery.reconciliation_plan import is_process_alive


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name looks like the end of a name with more fields."""
    program = tmp_path / "a) R 1 (b"
    shutil.copy(shutil.which("sleep") or "", program)
    environment = {"CANHAZGPU_RESERVATION": "r7-1"}
    with subprocess.Popen([program, "600"], env=environment) as process:
        until(lambda: "a) R 1 (b" in Path(f"/proc/{process.pid}/stat").read_text())
        yield process
        process.kill()


def test_a_name_that_looks_like_fields(odd: subprocess.Popen[bytes]) -> None:
    """Start and parent are read from behind the last parenthesis of the name."""
    start = start_time_of(odd.pid)
    assert start is not None
    assert start > 1000 or start == int(
        Path(f"/proc/{odd.pid}/stat").read_text().rpartition(") ")[2].split()[19]
    )
    own = start_time_of(os.getpid())
    assert own is not None
    assert Process(odd.pid, start) in process_tree(Process(os.getpid(), own))


def test_what_carries_a_reservation_is_found(odd: subprocess.Popen[bytes]) -> None:
    """A process is found by the complete value of a variable, among the processes of that user."""
    found = Process(odd.pid, start_time_of(odd.pid) or 0)
    assert with_variable(b"CANHAZGPU_RESERVATION", b"r7-1", os.getuid()) == [found]
    assert with_variable(b"CANHAZGPU_RESERVATION", b"r7", os.getuid()) == []
    assert with_variable(b"CANHAZGPU_RESERVATION", b"r7-1", os.getuid() + 1) == []


def test_without_a_descriptor_nobody_has_ended(odd: subprocess.Popen[bytes]) -> None:
    """Without a file descriptor, a process does not count as ended, and neither does its run."""
    start = start_time_of(odd.pid)
    assert start is not None
    record = Record(
        id="r1", kind="run", user="bob", uid=1001, gpus=(0,), started_ms=0, pid=odd.pid, start=start
    )
    with none_left():
        with pytest.raises(OSError, match="Too many open files"):
            start_time_of(odd.pid)
        with pytest.raises(OSError, match="Too many open files"):
            open_process(Process(odd.pid, start))
        assert is_process_alive(record)
    descriptor = open_process(Process(odd.pid, start))
    assert descriptor is not None
    os.close(descriptor)
