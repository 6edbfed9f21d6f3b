"""Programs that tests need and a host may lack."""

import os
import re
import shutil

import pytest
from support.forks import COMMAND

PLAIN = re.compile(r"canhazgpu( [\w./:,=@%+-]+)*")  # No character means anything to a shell.


def need(name: str) -> None:
    """Skip the test where this program is not installed; where all tests have to run, fail."""
    if not shutil.which(name):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")


def words_of(line: str, shell: list[str]) -> list[str]:
    """Return how to start what somebody types into a shell. A line that it would not change needs none."""
    return [*COMMAND, *line.split()[1:]] if PLAIN.fullmatch(line) else [*shell, "-c", line]
