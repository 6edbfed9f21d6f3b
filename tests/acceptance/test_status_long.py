"""`status --long` and the choices of `status`, on a pipe and on a terminal."""

import json
import os
import pty
import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.terminals import read_all

ESCAPES = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """GPU 0 free and hot, GPU 1 held by root, GPU 2 used by bob."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        daemon.place(
            gpu(0, memory_used_mb=45, utilization_percent=3, temperature_c=64),
            gpu(1, memory_used_mb=90, temperature_c=40),
            gpu(2, use(5012345, 2048, "bob", "python3")),
        )
        until(lambda: "by user bob" in daemon.status())
        assert daemon.run("reserve", "--gpu-ids", "1", "--note", "thesis").returncode == 0
        yield daemon
        daemon.stop()


def on_terminal(host: Daemon, *words: str, **variables: str) -> str:
    """Return what a command writes to a terminal."""
    master, slave = pty.openpty()
    environment = {"TERM": "xterm", **host.environment, **variables}
    subprocess.run([*COMMAND, *words], env=environment, stdout=slave, check=True)
    os.close(slave)
    return read_all(master).decode().replace("\r\n", "\n")


def on_pipe(host: Daemon, *words: str, **variables: str) -> str:
    """Return what a command writes to a pipe."""
    done = subprocess.run(
        [*COMMAND, *words], env={**host.environment, **variables}, capture_output=True, text=True, check=True
    )
    return done.stdout


def numbers(text: str) -> list[int]:
    """Return the numbers of the GPUs in a text."""
    return [int(found) for found in re.findall(r"^(?:GPU)? *(\d+)\b", text, re.MULTILINE)]


def test_the_table(shared: Daemon) -> None:
    """It has who, since and until when, the note and what only the card knows."""
    head, free, held, used = on_pipe(shared, "status", "--long", COLUMNS="200").splitlines()
    assert head.split() == [
        *("GPU", "STATE", "WHO", "GIB", "MEMORY", "UTIL", "TEMP", "SINCE", "UNTIL", "MODEL", "NOTE"),
        "PROCESSES",
    ]
    assert re.match(r"  0  free +- +0\.0/79\.6  ░+ +3%   64C  -", free)
    assert re.search(
        r"  1  reserved +root .* -   40C  (\d\d-\d\d )?\d\d:\d\d \S+ .*NVIDIA.*  thesis +-$", held
    )
    assert re.search(r"  2  unreserved  bob  +2\.0/79\.6 .*5012345 python3$", used)


def test_without_a_width_it_is_as_wide_as_it_has_to_be(shared: Daemon) -> None:
    """On a pipe without COLUMNS no column is left out; on a terminal COLUMNS decides."""
    free = {name: value for name, value in shared.environment.items() if name != "COLUMNS"}
    done = subprocess.run([*COMMAND, "status", "-l"], env=free, capture_output=True, text=True, check=True)
    assert "PROCESSES" in done.stdout
    assert "PROCESSES" not in on_terminal(shared, "status", "--long", COLUMNS="60")


@pytest.mark.parametrize(
    ("variables", "terminal", "pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "0"}, True, False),
    ],
)
def test_colours(shared: Daemon, variables: dict[str, str], terminal: bool, pipe: bool) -> None:  # noqa: FBT001
    """The table has colours where they are wanted; plain lines never on a pipe."""
    shown = on_terminal(shared, "status", "--long", **variables)
    assert bool(ESCAPES.search(shown)) == terminal
    assert bool(ESCAPES.search(on_pipe(shared, "status", "--long", **variables))) == pipe
    assert not ESCAPES.search(on_pipe(shared, "status", **variables))
    lines = on_terminal(shared, "status", **variables)
    assert bool(ESCAPES.search(lines)) == (terminal and "NO_COLOR" not in variables)
    assert not ESCAPES.search(on_terminal(shared, "status", "--no-color", **variables))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--user", "bob"], [2]),
        (["-u", "root"], [1]),
        (["--free"], [0]),
        (["--mine"], [1]),
        (["--sort", "memory"], [2, 1, 0]),
        (["--sort", "temp"], [0, 1, 2]),
    ],
)
def test_choices(shared: Daemon, words: list[str], found: list[int]) -> None:
    """Each choice chooses the same in the lines, the table and the JSON."""
    lines = on_pipe(shared, "status", *words)
    assert numbers(lines) == found
    assert all(re.match(r"GPU \d: (AVAILABLE|IN USE) ", line) for line in lines.splitlines())
    assert numbers(on_pipe(shared, "status", "--long", *words)) == found
    rows: list[dict[str, Any]] = json.loads(on_pipe(shared, "status", "--json", *words))
    assert [row["gpu_id"] for row in rows] == found


def test_nothing_chosen_is_said(shared: Daemon) -> None:
    """Where no GPU is chosen, stdout is empty and one line says so."""
    done = shared.run("status", "--user", "mallory")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No GPU of this host matches.\n")
    assert json.loads(on_pipe(shared, "status", "--json", "--user", "mallory")) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--free", "--mine"], "use one of --user, --mine and --free"),
        (["--sort", "colour"], "--sort: use gpu, memory, util, temp, user or until"),
        (["--long", "--json"], "--json and --long cannot be used together"),
    ],
)
def test_what_cannot_be_chosen(shared: Daemon, words: list[str], said: str) -> None:
    """It is one line that says what can, and exit code 2."""
    done = shared.run("status", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {said}")
    assert done.stderr.count("\n") == 1


def test_a_run_with_a_time_limit_has_an_end(shared: Daemon) -> None:
    """`status --long` and the JSON say when it is stopped; the plain line and `expires` are as they were."""
    run = subprocess.Popen(
        [*COMMAND, "run", "--new", "--duration", "2h", "--", "cat"],
        env=shared.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: "GPU 0: IN USE by root" in shared.status())
        held = json.loads(on_pipe(shared, "status", "--json"))[0]["reservation"]
        assert (held["kind"], held["expires"], held["expires_in_s"]) == ("run", None, None)
        ends = datetime.fromisoformat(held["until"]) - datetime.fromisoformat(held["started"])
        assert ends == timedelta(hours=2)
        row = on_pipe(shared, "status", "--long", TZ="UTC0").splitlines()[1]
        assert held["until"][11:16] + " UTC" in row
        assert "(run, last heartbeat " in on_pipe(shared, "status").splitlines()[0]
    finally:
        run.communicate()
