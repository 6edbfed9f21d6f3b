"""Whether there is room to write, and of what there is none."""

import os
from pathlib import Path

LEAST_SPACE = 65536  # Bytes; with less a server cannot write.


def no_room(folder: Path) -> str | None:
    """Return what has run out on the file system of `folder`, `space` or `inodes`; None if neither has."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return None
    if room.f_blocks and room.f_bavail * room.f_frsize < LEAST_SPACE:
        return "space"
    return "inodes" if room.f_files and not room.f_favail else None
