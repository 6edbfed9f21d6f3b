"""The lock of a folder: it is held as long as a process lives that inherited it, whatever was deleted."""

import subprocess
from pathlib import Path

import pytest
from support.daemon import until

from canhazgpu.service.lock import AlreadyRunning, Lock


def taken(path: Path) -> bool:
    """Take the lock and release it; return whether that succeeds."""
    try:
        Lock(path).release()
    except AlreadyRunning:
        return False
    return True


@pytest.mark.parametrize("deleted", [False, True])
def test_a_server_that_outlives_its_service_keeps_the_lock(folder: Path, *, deleted: bool) -> None:
    """Its descriptors hold the lock, also if the file was deleted, until it has ended."""
    path = folder / "lock"
    lock = Lock(path)
    server = subprocess.Popen(["sleep", "600"], pass_fds=lock.descriptors())
    try:
        lock.release()
        if deleted:
            path.unlink()
        assert not taken(path)
    finally:
        server.kill()
        server.wait()
    until(lambda: taken(path))
