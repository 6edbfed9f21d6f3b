"""Identifies the program of a process by its path, if only root could have installed it."""

import os
import stat
from pathlib import PurePosixPath

DELETED = " (deleted)"  # An upgrade replaces the file of a running program.


def executable_of(folder: str) -> str | None:
    """Return the path of the program that the process of `folder` (/proc/PID) runs.

    None where it has none (a kernel thread). Raises PermissionError where it may not be seen.
    """
    try:
        return os.readlink(f"{folder}/exe")  # noqa: PTH115 - called for each process of each scan
    except PermissionError:
        raise
    except OSError:
        return None


def is_roots(folder: str, path: str) -> bool:
    """Return whether only root can have put a program at `path`, which comes from `executable_of`."""
    try:
        program = os.stat(f"{folder}/exe")  # noqa: PTH116 - the file itself, also a deleted one
        place = PurePosixPath(path.removesuffix(DELETED))
        if not place.is_absolute() or not _only_roots(program) or _on_fuse(program.st_dev):
            return False
        above = [os.stat(folder) for folder in place.parents]  # noqa: PTH116
    except OSError:
        return False
    return _only_roots(above[0]) and all(_only_roots(one) or _sticky(one) for one in above[1:])


def _only_roots(found: os.stat_result) -> bool:
    writable = found.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if found.st_gid else 0))
    return found.st_uid == 0 and not writable


def _sticky(found: os.stat_result) -> bool:
    """Return whether a group can create files in a folder but not change root's, as in /nix/store."""
    return found.st_uid == 0 and bool(found.st_mode & stat.S_ISVTX) and not found.st_mode & stat.S_IWOTH


def _on_fuse(device: int) -> bool:
    """Return whether a file is in a file system that a user may provide, so that its owners prove nothing."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
        for line in file:
            fields, _, kind = line.partition(" - ")
            if fields.split()[2] == number:
                return kind.startswith("fuse")
    return False
