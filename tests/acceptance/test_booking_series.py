"""Series of bookings on the command line: the same time on several days."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu


@pytest.fixture
def two(folder: Path) -> Iterator[Daemon]:
    """A host with two idle GPUs."""
    daemon = Daemon(folder)
    daemon.place(gpu(0), gpu(1))
    daemon.start()
    yield daemon
    daemon.stop()


def booked(host: Daemon) -> list[dict[str, Any]]:
    """Return the bookings."""
    rows: list[dict[str, Any]] = json.loads(host.run("bookings", "--json").stdout)
    return rows


def test_a_series_is_booked_and_cancelled(two: Daemon) -> None:
    """Every day at the same time; the refusal of one that is not possible names its day."""
    words = ("reserve", "--gpus", "2", "--begin", "tomorrow 9:00", "--duration", "2h", "--every", "day")
    done = two.run(*words, "--until", "+3d")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert [line.startswith("Booked 2 GPU(s) from ") and " 09:00 " in line for line in lines] == [True] * 3
    series = lines[0].rpartition(": ")[2].removesuffix(".1")
    assert last == f"`canhazgpu cancel {series}` cancels all of them."
    assert [one["series"] for one in booked(two)] == [series] * 3
    said = (two.run(*words[:4], "tomorrow 8:00", *words[5:], "--until", "+9d")).stderr
    assert " cannot be promised from " in said
    assert len(booked(two)) == 3
    assert two.run("cancel", f"{series}.2").returncode == 0
    gone = two.run("cancel", series).stdout.splitlines()
    assert [line.split(" of ")[0] for line in gone] == [f"Cancelled the booking {series}.{n}" for n in (1, 3)]
    short = two.run(*words, "--until", "+2d", "--short").stdout.strip()
    assert {one["series"] for one in booked(two)} == {short}
    as_json = two.run(*words[:4], "tomorrow 15:00", *words[5:], "--until", "+2d", "--json")
    assert [one["id"].endswith(f".{n}") for n, one in enumerate(json.loads(as_json.stdout), 1)] == [True] * 2


NO_SERIES = {
    "--every needs --begin": ("--every", "day", "--until", "+2d"),
    "--until is the last day of --every": ("--begin", "+1h", "--until", "+2d"),
    "--every needs --until, the last day": ("--begin", "+1h", "--every", "day"),
    "--every: 'moon' is not known": ("--begin", "+1h", "--every", "moon", "--until", "+2d"),
    "--until: 'soon' is not a date": ("--begin", "+1h", "--every", "day", "--until", "soon"),
    "there is only one such day": ("--begin", "+1h", "--every", "week", "--until", "+2d"),
    "at most 30d from now": ("--begin", "+1h", "--every", "day", "--until", "+40d"),
}


def test_what_is_no_series(two: Daemon) -> None:
    """One line says which option lacks what, and nothing is booked."""
    for why, words in NO_SERIES.items():
        done = two.run("reserve", "--duration", "1h", *words)
        assert (done.returncode, done.stderr.count("\n")) == (1 if "30d" in why else 2, 1)
        assert why in done.stderr
    assert booked(two) == []
