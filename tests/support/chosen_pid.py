"""A process with a pid that the test chooses; no other process of this host is affected."""

import contextlib
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.eventually import until

CLONE3 = 435  # The same number on every architecture.


def fork_as(pid: int) -> int:
    """Fork like `os.fork`, into a child with this pid, which must be free; skip where that is not allowed."""
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    wanted = ctypes.c_int(pid)
    # struct clone_args: the fifth is exit_signal, the last two are set_tid and set_tid_size.
    request = struct.pack("=10Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1)
    ctypes.pythonapi.PyOS_BeforeFork()
    made = libc.syscall(ctypes.c_long(CLONE3), request, ctypes.c_size_t(len(request)))
    if made == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if made < 0 and error in {errno.EPERM, errno.ENOSYS, errno.E2BIG, errno.EINVAL}:
        pytest.skip(f"pids cannot be chosen here: {os.strerror(error)}")
    if made < 0:
        raise OSError(error, os.strerror(error), f"clone3 with pid {pid}")
    return int(made)


@contextlib.contextmanager
def running_as(pid: int, *words: str, uid: int = 0) -> Iterator[None]:
    """Run a program with this pid, as this user, until the test is over."""
    if fork_as(pid) == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.execvp(words[0], words)  # noqa: S606 - there is no shell
        finally:
            os._exit(127)
    try:
        until(lambda: Path(f"/proc/{pid}/comm").read_text() == f"{Path(words[0]).name}\n")
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
