"""The groups of a user, with those of a directory, asked in a way that holds up no other thread."""

import ctypes
import functools
from typing import Any

FIRST_SIZE = 64


def groups_of(name: str, gid: int) -> frozenset[int]:
    """Return the groups of a user whose primary group is `gid`; blocks as long as the directory does.

    Python's own `os.getgrouplist` keeps every thread waiting meanwhile.
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
