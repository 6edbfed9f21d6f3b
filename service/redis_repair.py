"""Repairs an append-only file that is broken in its middle: what stands before is kept, a copy put aside.

The server's own checker does it. It is in the server's program, and runs when that is called so.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

NAME = "redis-check-aof"
PATIENCE = 60.0  # Seconds the checker may take.
_INCREMENT = re.compile(r"^file (\S+) seq \d+ type i", re.MULTILINE)


class RepairFailed(Exception):
    """It cannot be repaired; the message says why."""


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
    """Return the command that repairs by hand what `repair` does not."""
    beside = Path(program).with_name(NAME)
    words = str(beside) if beside.exists() else f"bash -c 'exec -a {NAME} {program} \"$@\"' -"
    return f"{words} --fix {_last_file(folder)}"


def _last_file(folder: Path) -> Path:
    """Return the file that the server wrote to last: the only one that may be cut."""
    parts = folder / "appendonlydir"
    try:
        names = _INCREMENT.findall((parts / "appendonly.aof.manifest").read_text())
    except OSError:
        names = []
    return parts / names[-1] if names else folder / "appendonly.aof"
