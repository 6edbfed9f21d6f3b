"""Checks whether a file system is out of space or inodes."""

import os
from pathlib import Path

LEAST_SPACE = 65536  # Bytes; a server cannot write with less.


def exhausted_resource(folder: Path) -> str | None:
    """Return `space` or `inodes` if the file system of `folder` has run out of it, else None."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return None
    if room.f_blocks and room.f_bavail * room.f_frsize < LEAST_SPACE:
        return "space"
    return "inodes" if room.f_files and not room.f_favail else None
