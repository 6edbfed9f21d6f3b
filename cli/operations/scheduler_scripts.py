"""What a scheduler runs as root has to be root's: checks before its scripts are written."""

import re
from pathlib import Path

from canhazgpu.cli.exit_codes import REFUSED
from canhazgpu.cli.operations.host_files import is_roots, shown
from canhazgpu.cli.output import fail

PLAIN = re.compile(r"[\w./+@-]+", re.ASCII)
REMEDY = "install it for the host: python3 -m venv /opt/canhazgpu"


def check(folder: Path, program: Path, contents: str, daemon: str) -> None:
    """Exit if `daemon` could not run scripts in `folder`, or if others than root could change them.

    `contents`: what the folder is known by.
    """
    if not folder.is_dir():
        fail(f"{shown(folder)} does not exist: name the directory of {contents} with --to", REFUSED)
    if not program.is_file():
        fail(f"{shown(program)} does not exist: {REMEDY}", REFUSED)
    plain(program)
    plain(folder)
    for path in (program, folder):
        changed = next((one for one in (path, *path.parents) if not is_roots(one)), None)
        if changed:
            fail(
                f"users other than root can change {shown(changed)}, which {daemon} would run: {REMEDY}",
                REFUSED,
            )


def plain(path: Path) -> Path:
    """Return a path that a script can name without quotes; exit if it cannot."""
    if not PLAIN.fullmatch(str(path)):
        fail(f"a script cannot name {shown(path)}: use a path of letters, digits and ./+@_-", REFUSED)
    return path
