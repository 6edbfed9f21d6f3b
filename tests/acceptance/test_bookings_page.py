"""The chapter about bookings in docs/users.md: its commands, executed on a host of two GPUs."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, PATIENCE, Daemon, gpu

PAGE = (Path(__file__).parents[2] / "docs" / "users.md").read_text()
CHAPTER = re.search(r"^## Booking GPUs for later\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
# What is different each time: an id, a day, a time of day with its zone, and how long it is until then.
VARIES = (
    (r"b\d+-\d+", "ID"),
    (r"\b[A-Z]{3,4}\b(?=[:)\s]|$)", "ZONE"),
    (r"\d{4}-\d{2}-\d{2}", "DAY"),
    (r"until DAY \d\d:\d\d", "until DAY TIME"),  # In the zone of the service.
    (r"--timeout \w+", "--timeout LEFT"),
)


@pytest.fixture
def two(folder: Path) -> Iterator[Daemon]:
    """A host with two idle GPUs, and `canhazgpu` in its folder."""
    (folder / "canhazgpu").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (folder / "evaluate.sh").write_text("#!/bin/sh\n")
    for name in ("canhazgpu", "evaluate.sh"):
        (folder / name).chmod(0o755)
    daemon = Daemon(folder)
    daemon.place(gpu(0), gpu(1))
    daemon.start()
    yield daemon
    daemon.stop()


def execute(host: Daemon, command: str) -> str:
    """Return everything that a command prints."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=host.folder,
        env={**host.environment, "PATH": f"{host.folder}:{os.environ['PATH']}", "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.stdout + done.stderr


def stable(text: str) -> str:
    """Return a text without what is different each time."""
    for pattern, name in VARIES:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text


def test_the_commands_of_the_chapter(two: Daemon) -> None:
    """Each example prints what is below it, and the listed commands show and cancel the booking."""
    assert CHAPTER
    examples = re.findall(r"^    \$ (.*)\n((?:    [^$].*\n)+)", CHAPTER[1], re.MULTILINE)
    listed = re.findall(r"^    (canhazgpu .*)$", CHAPTER[1], re.MULTILINE)
    assert (len(examples), len(listed)) == (2, 7)
    names = []
    for command, printed in examples:
        said = execute(two, command)
        assert stable(said) == stable(re.sub("^    ", "", printed, flags=re.MULTILINE))
        names += re.findall(r"b\d+-\d+", said)
    (name,) = names
    for command in listed:
        said = execute(two, re.sub(r"b\d+-\d+", name, command))
        if " > " in command:
            said = (two.folder / command.partition(" > ")[2]).read_text()
        name = next(iter(re.findall(r"`canhazgpu cancel (b\d+-\d+)`", said)), name)  # Of the series.
        assert name in said
    assert two.run("bookings").stdout == "Nothing is booked.\n"
