"""Looks up the groups of a user, including those of a directory, without blocking other threads."""

import ctypes
import functools
from typing import Any

FIRST_SIZE = 64


def groups_of(name: str, gid: int) -> frozenset[int]:
    """Return the groups of a user with the primary group `gid`; blocks for as long as the directory does.

    Unlike Python's `os.getgrouplist`, it does not hold the GIL in the meantime.
    """
    size = FIRST_SIZE
    while True:
        count, numbers = ctypes.c_int(size), (ctypes.c_uint * size)()
        if _getgrouplist()(name.encode(), gid, numbers, ctypes.byref(count)) >= 0:
            return frozenset(numbers[: count.value])
        size = max(count.value, 2 * size)


@functools.cache
def _getgrouplist() -> Any:
    function = ctypes.CDLL(None).getgrouplist
    function.argtypes = [ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
    return function
