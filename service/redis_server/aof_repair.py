"""Repairs a damaged append-only file: the part before the damage is kept, and a copy of the file is made.

This uses the server's own checker, which is part of the server program and runs if it is called by that name.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

NAME = "redis-check-aof"
PATIENCE = 60.0  # Timeout of the checker in seconds.
_INCREMENT = re.compile(r"^file (\S+) seq \d+ type i", re.MULTILINE)


class RepairFailed(Exception):
    """The file cannot be repaired; the message says why."""


def repair(program: str, folder: Path) -> Path:
    """Cut the last append-only file in `folder` before its first error; return where the copy is.

    Raises RepairFailed.
    """
    broken = _last_file(folder)
    aside = folder / f"broken-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.aof"
    try:
        shutil.copy2(broken, aside)
        done = subprocess.run(
            [NAME, "--fix", str(broken)],
            executable=program,
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RepairFailed(str(error)) from error
    if done.returncode != 0 or broken.stat().st_size == aside.stat().st_size:
        raise RepairFailed(" ".join(done.stdout.split("\n")[-2:]).strip() or "it found no error")
    return aside


def check_command(program: str, folder: Path) -> str:
    """Return the command for a manual repair."""
    beside = Path(program).with_name(NAME)
    words = str(beside) if beside.exists() else f"bash -c 'exec -a {NAME} {program} \"$@\"' -"
    return f"{words} --fix {_last_file(folder)}"


def _last_file(folder: Path) -> Path:
    """Return the file that the server wrote to last, which is the only one that may be truncated."""
    parts = folder / "appendonlydir"
    try:
        names = _INCREMENT.findall((parts / "appendonly.aof.manifest").read_text())
    except OSError:
        names = []
    return parts / names[-1] if names else folder / "appendonly.aof"
