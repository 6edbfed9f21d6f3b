"""Maintenance on the command line: planned, announced, begun, and ended."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until
from support.people import Person


@pytest.fixture
def two(folder: Path) -> Iterator[Daemon]:
    """A host with two idle GPUs."""
    daemon = Daemon(folder)
    daemon.place(gpu(0), gpu(1))
    daemon.start()
    yield daemon
    daemon.stop()


def states(host: Daemon) -> list[str]:
    """Return the states of the GPUs."""
    rows: list[dict[str, Any]] = json.loads(host.run("status", "--json").stdout)
    return [row["status"] for row in rows]


def test_it_begins_and_ends(two: Daemon) -> None:
    """Now and for later, with who is notified; it is listed, and ends when it is cancelled."""
    assert two.run("reserve", "--gpu-ids", "1", "--duration", "3h").returncode == 0
    words = ("admin", "drain", "--reason", "new cooler", "--duration", "1h")
    done = two.run(*words, "all", "--begin", "+2h")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("Maintenance of GPUs 0,1 from ")
    assert second == "Notified: root (GPU 1)"
    later = first.rpartition(": ")[2]
    assert "new cooler" in two.run("bookings").stdout
    refused = two.run("run", "--new", "--gpus", "1", "--nonblock", "--", "true")
    assert "booked" in refused.stderr
    begun = json.loads(two.run(*words, "0", "--begin", "now", "--json").stdout)
    assert (begun["drain"], begun["gpus"], begun["concerned"]) == ("new cooler", [0], [])
    until(lambda: states(two)[0] == "DRAINED", what="GPU 0 is drained")
    assert two.run("cancel", begun["id"], later).returncode == 0
    assert states(two)[0] == "AVAILABLE"
    assert two.run("bookings").stdout == "Nothing is booked.\n"
    assert two.run("run", "--gpus", "1", "--", "true").returncode == 0


REFUSED = {
    ("0", "--begin", "+1h"): "maintenance needs both --begin and --duration",
    ("0", "--duration", "1h"): "maintenance needs both --begin and --duration",
    ("0", "--begin", "soon", "--duration", "1h"): "--begin: 'soon' is not a time",
    ("0", "--begin", "+1h", "--duration", "1s"): "maintenance is at least a minute long",
    ("7", "--begin", "+1h", "--duration", "1h"): "there is no GPU 7",
}


def test_what_is_refused(two: Daemon) -> None:
    """One line says why, and nothing is planned."""
    for words, why in REFUSED.items():
        done = two.run("admin", "drain", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert why in done.stderr
    assert two.run("bookings").stdout == "Nothing is booked.\n"


def test_only_administrators_plan_it(two: Daemon, people: list[Person]) -> None:
    """A user is refused."""
    done = two.run("admin", "drain", "0", "--begin", "+1h", "--duration", "1h", person=people[0])
    assert done.returncode != 0
    assert "only administrators can do this" in done.stderr
