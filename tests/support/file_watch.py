"""Waiting for a write to a file, without polling: what is done next is done at once."""

import contextlib
import ctypes
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

IN_MODIFY = 2  # From <sys/inotify.h>.


@contextlib.contextmanager
def watch(path: Path) -> Iterator[Callable[[float], bool]]:
    """Give a function that waits at most so many seconds for a write since now, and tells if one came."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.inotify_init1(os.O_CLOEXEC)
    try:
        if libc.inotify_add_watch(number, os.fsencode(path), IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        yield lambda seconds: bool(select.select([number], [], [], seconds)[0])
    finally:
        os.close(number)
