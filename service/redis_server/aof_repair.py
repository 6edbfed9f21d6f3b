"""Repairs a damaged append-only file: the part before the damage is kept, and a copy of the file is made.

What cannot be repaired is moved aside. Nothing is deleted.
This uses the server's own checker, which is part of the server program and runs if it is called by that name.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

REPAIRS = 2  # First the file is cut; if that does not help, the data are moved aside.
NAME = "redis-check-aof"
DATA = ("appendonly.aof", "appendonlydir", "dump.rdb")
PATIENCE = 60.0  # Timeout of the checker in seconds.
_INCREMENT = re.compile(r"^file (\S+) seq \d+ type i", re.MULTILINE)


Restorable = Callable[[], bool]  # Tells whether the journal can be read, and has a state.


class RepairFailed(Exception):
    """The file was not repaired; the message says why."""


class Unrepairable(RepairFailed):
    """The server's checker cannot help: a file is missing, or it finds no damage."""


@dataclass(frozen=True)
class RepairResult:
    """The result of a repair: the event to log, and whether the server starts without data."""

    event: str
    damage: str
    facts: dict[str, str]
    empty: bool


def repair_or_move_aside(
    program: str, folder: Path, journal: Path, restorable: Restorable, repairs: int
) -> RepairResult:
    """Repair the data, or move them aside if that cannot help or did not help before (`repairs`).

    Nothing is changed without a journal, and nothing is moved without a readable one. Raises RepairFailed.
    """
    if not journal.exists():
        raise RepairFailed("there is no journal to restore from")
    try:
        if repairs:
            raise Unrepairable("the repair did not help")
        copy = repair(program, folder)
    except Unrepairable as failed:
        if not restorable():
            raise RepairFailed(f"{failed}, and {journal} has nothing to restore from") from failed
        aside = move_aside(folder)
        damage = (
            "its data were damaged and could not be repaired: it started empty, and live reservations were "
            f"restored from the journal; the damaged data are in {aside}"
        )
        facts = {"reason": str(failed), "folder": str(aside)}
        return RepairResult("redis_data_set_aside", damage, facts, empty=True)
    damage = f"its append-only file was damaged, and was truncated before the damage; a copy is {copy}"
    return RepairResult("redis_file_repaired", damage, {"copy": str(copy)}, empty=False)


def repair(program: str, folder: Path) -> Path:
    """Truncate the last append-only file in `folder` before its first error; return the path of the copy.

    Raises RepairFailed.
    """
    broken = _last_file(folder)
    if not broken.is_file():
        raise Unrepairable(f"there is no {broken}")
    aside = _aside(folder, ".aof")
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
        aside.unlink()  # The whole data are kept instead.
        raise Unrepairable(" ".join(done.stdout.split("\n")[-2:]).strip() or "it found no error")
    return aside


def move_aside(folder: Path) -> Path:
    """Move all data in `folder` to a new folder next to it; return its path. Raises RepairFailed."""
    aside = _aside(folder, "")
    try:
        aside.mkdir(mode=0o700)
        for name in DATA:
            if os.path.lexists(folder / name):
                (folder / name).rename(aside / name)
    except OSError as error:
        raise RepairFailed(f"{aside}: {error.strerror or error}") from error
    return aside


def _aside(folder: Path, suffix: str) -> Path:
    """Return a path that does not exist yet."""
    name = f"broken-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (f"{name}{more}{suffix}" for more in chain([""], (f"-{number}" for number in count(2))))
    return next(folder / one for one in names if not os.path.lexists(folder / one))


def check_command(program: str, folder: Path) -> str:
    """Return the command for a manual repair."""
    beside = Path(program).with_name(NAME)
    words = str(beside) if beside.exists() else f"bash -c 'exec -a {NAME} {program} \"$@\"' -"
    return f"{words} --fix {_last_file(folder)}"


def _last_file(folder: Path) -> Path:
    """Return the file that the server wrote last, which is the only one that may be truncated."""
    parts = folder / "appendonlydir"
    try:
        names = _INCREMENT.findall((parts / "appendonly.aof.manifest").read_text())
    except (OSError, UnicodeDecodeError):
        names = []
    return parts / names[-1] if names else folder / "appendonly.aof"
