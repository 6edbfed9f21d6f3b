"""Where bookings are seen besides `canhazgpu bookings`: beside the GPUs, the queue, and what was reserved."""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person

HOSTILE = "\x1b[2J</script> - by user bob"
TITLE = "Bookings of the next 24 hours:"


@pytest.fixture(scope="module")
def booked() -> Iterator[Daemon]:
    """Two idle GPUs: both are booked by root for tomorrow, one is booked in 3 days."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        host = Daemon(Path(name))
        host.place(gpu(0), gpu(1))
        host.start()
        book(
            host, "--gpus", "2", "--begin", "+20h", "--duration", "2h", "--note", HOSTILE.replace("\x1b", "")
        )
        book(host, "--gpu-ids", "1", "--begin", "+72h", "--duration", "2h")
        yield host
        host.stop()


def book(host: Daemon, *words: str, person: Person | None = None) -> str:
    """Book GPUs; return the id."""
    done = host.run("reserve", "--json", *words, **({"person": person} if person else {}))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def below(host: Daemon, *words: str) -> list[str]:
    """Return the rows of bookings below what a command shows."""
    shown = host.run(*words)
    assert shown.returncode == 0, shown.stderr
    _, title, table = shown.stdout.partition(f"\n{TITLE}\n")
    assert bool(title) == bool(table)
    return table.splitlines()


def test_the_table_of_status(booked: Daemon, people: list[Person]) -> None:
    """`status --long` has the bookings of the next 24 hours below the GPUs; the lines have none."""
    head, row = below(booked, "status", "--long")
    assert head.split() == ["WHO", "GPUS", "FROM", "UNTIL", "NOTE"]
    moment = r"(\d\d-\d\d )?\d\d:\d\d [A-Z]+"
    assert re.fullmatch(rf"root +2 +{moment} +{moment} +\[2J</script>\\x20- by\\x20user bob", row), row
    assert below(booked, "status", "--long", "--user", people[0].name) == []
    assert below(booked, "status", "--long", "--mine") == [head, row]  # Although nobody holds a GPU.
    assert booked.run("status").stdout.count("\n") == 2
    assert len(json.loads(booked.run("status", "--json").stdout)) == 2
    mine = book(booked, "--gpu-ids", "0", "--begin", "+1h", "--duration", "1h", person=people[0])
    try:
        first, second = below(booked, "status", "-l")[1:]
        assert first.startswith(f"{people[0].name}  GPU 0  ")
        assert second.split()[:2] == ["root", "2"]
    finally:
        booked.run("cancel", mine, "--user", people[0].name)


def test_what_was_booked_is_recognisable(booked: Daemon) -> None:
    """`history` says which reservations were bookings, and its JSON and the events which one each was."""
    name = book(booked, "--gpu-ids", "0", "--begin", "+1s", "--duration", "1h")
    until(lambda: json.loads(booked.run("reservations", "--json").stdout))
    assert booked.run("release").returncode == 0
    assert booked.run("reserve", "--gpu-ids", "0", "--duration", "1h").returncode == 0
    assert booked.run("release").returncode == 0
    _, first, second, *_ = booked.run("history").stdout.splitlines()
    assert "  manual (booked)  " in first
    assert "booked" not in second
    assert [row["booking"] for row in json.loads(booked.run("history", "--json").stdout)] == [name, None]
    events = booked.run("events", "--json", "--since", "1h", "--type", "reservation").stdout
    said = [json.loads(line)["data"].get("booking") for line in events.splitlines()]
    assert said == [name, name, None, None]


def test_below_the_queue(booked: Daemon) -> None:
    """`queue` has them below the requests, and also if nobody waits; its JSON has requests only."""
    assert booked.run("queue").stdout.startswith(f"The queue is empty.\n\n{TITLE}\nWHO ")
    (_, row) = below(booked, "queue")
    assert row.startswith("root  2 ")
    assert json.loads(booked.run("queue", "--json").stdout) == []
    words = ("reserve", "--gpus", "2", "--duration", "24h", "--wait")  # It would last into the booking.
    waiting = subprocess.Popen([*COMMAND, *words], env=booked.environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: booked.run("queue").stdout.startswith("POSITION"))
        assert below(booked, "queue")[1:] == [row]
    finally:
        waiting.terminate()
        waiting.wait()
