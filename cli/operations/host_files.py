"""Files of the host that commands write: replaced as a whole, and the older one is kept."""

import stat
import sys
from pathlib import Path

from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.output import fail
from canhazgpu.events.sanitize import printable

LONGEST = 4096  # Characters of a path.
READABLE, EXECUTABLE = 0o644, 0o755


def write(path: Path, text: str, mode: int = READABLE) -> None:
    """Replace a file; the older one is kept if it says something else."""
    kept = ""
    try:
        if path.exists() and path.read_text(errors="replace") != text:
            path.replace(f"{path}.bak")
            kept = f" (the previous one is now {path.name}.bak)"
        path.write_text(text)
        path.chmod(mode)
    except OSError as error:
        remedy = ": run this as root" if isinstance(error, PermissionError) else ""
        fail(f"{shown(path)} cannot be written: {error.strerror}{remedy}", REFUSED)
    sys.stdout.write(f"Wrote {shown(path)}{kept}\n")


def shown(path: Path | str) -> str:
    """Return a path for a message."""
    return printable(str(path), LONGEST)


def is_roots(path: Path) -> bool:
    """Return whether only root can change this file, or what is in this folder."""
    found = path.stat()
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    return found.st_uid == 0 and (not shared or (found.st_gid == 0 and not found.st_mode & stat.S_IWOTH))
