"""Finds programs as `shutil.which` does, which takes as long to import as Python to start."""

from __future__ import annotations

import os


def find(name: str, mode: int = os.F_OK | os.X_OK) -> str | None:
    """Return the path of a program that can be accessed in this mode: `name` itself if it is a path."""
    if "/" in name:
        return name if _is_file(name, mode) else None
    folders = os.environ.get("PATH")
    if folders is None:
        try:
            folders = os.confstr("CS_PATH")
        except (AttributeError, ValueError):
            folders = os.defpath
    for folder in folders.split(os.pathsep) if folders else ():
        path = os.path.join(folder, name)  # noqa: PTH118 - pathlib costs time
        if _is_file(path, mode):
            return path
    return None


def _is_file(path: str, mode: int) -> bool:
    return os.access(path, mode) and not os.path.isdir(path)  # noqa: PTH112
