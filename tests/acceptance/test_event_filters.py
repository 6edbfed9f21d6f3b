"""`events` by period, user and GPU, and the newest of them."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use


@pytest.fixture(scope="module")
def past() -> Iterator[Daemon]:
    """Bob has used GPU 2 without a reservation, root has reserved GPUs 0 and 1, both on the same host."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        daemon.place(gpu(0), gpu(1), gpu(2, use(12345, 2048, "bob", "python3")))
        until(lambda: [fact for fact in daemon.facts() if fact["type"].endswith("opened")])
        daemon.place(gpu(0), gpu(1), gpu(2))
        until(lambda: [fact for fact in daemon.facts() if fact["type"].endswith("closed")])
        assert daemon.run("reserve", "--gpu-ids", "0,1").returncode == 0
        assert daemon.run("release").returncode == 0
        yield daemon
        daemon.stop()


def events(host: Daemon, *words: str) -> list[dict[str, Any]]:
    """Return the events that a command prints."""
    done = host.run("events", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """Return their types."""
    return [one["type"].removeprefix("canhazgpu.") for one in found]


def test_of_a_user(past: Daemon) -> None:
    """Only events that name the user, and all of them."""
    theirs = events(past, "--user", "bob")
    assert {"violation.opened", "violation.closed"} <= set(kinds(theirs))
    assert not {kind for kind in kinds(theirs) if kind.startswith("reservation")}
    assert kinds(events(past, "-u", "root", "--type", "reservation")) == [
        "reservation.created",
        "reservation.released",
    ]
    assert events(past, "--user", "mallory") == []


def test_of_a_gpu(past: Daemon) -> None:
    """A GPU is named by an event of its own, or is among the GPUs of a reservation."""
    assert kinds(events(past, "--gpu", "1", "--type", "reservation")) == [
        "reservation.created",
        "reservation.released",
    ]
    card = json.loads(past.run("status", "--json").stdout)[1]["uuid"]
    by_card = events(past, "--gpu", card[:14], "--type", "reservation")
    assert kinds(by_card) == ["reservation.created", "reservation.released"]
    of_two = set(kinds(events(past, "--gpu", "2")))
    assert {"violation.opened", "gpu.changed"} <= of_two
    assert not {kind for kind in of_two if kind.startswith("reservation")}
    assert "gpus=0,1" in past.run("events", "--gpu", "0", "--type", "reservation").stdout


def test_of_a_period(past: Daemon) -> None:
    """Events are from the period, whose ends are times of the events or words such as 1h."""
    everything = events(past, "--since", "1h")
    assert kinds(everything)[-1] == "reservation.released"
    middle = everything[len(everything) // 2]
    later = events(past, "--since", middle["time"])
    assert [one["id"] for one in later][-1] == everything[-1]["id"]
    assert 0 < len(later) < len(everything)
    earlier = events(past, "--until", middle["time"], "--since", "1h")
    assert {one["id"] for one in earlier} | {one["id"] for one in later} >= {one["id"] for one in everything}
    assert (
        everything[-1]["id"] not in {one["id"] for one in earlier} or middle["time"] == everything[-1]["time"]
    )
    assert events(past, "--until", "yesterday", "--since", "7d") == []


def test_the_newest(past: Daemon) -> None:
    """`-n` is the newest that match, oldest first; with --follow, new ones come after them."""
    everything = events(past, "--since", "1h")
    assert [one["id"] for one in events(past, "-n", "2")] == [one["id"] for one in everything[-2:]]
    (last,) = events(past, "-n", "1", "--user", "bob", "--type", "violation")
    assert last["type"] == "canhazgpu.violation.closed"
    words = [*COMMAND, "events", "--json", "--follow", "-n", "1", "--type", "reservation"]
    with subprocess.Popen(words, env=past.environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        first = json.loads(following.stdout.readline())
        assert past.run("run", "--", "true").returncode == 0
        second = json.loads(following.stdout.readline())
        following.terminate()
    assert kinds([first, second]) == ["reservation.released", "reservation.created"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "soon"], "--since: 'soon' is not a duration"),
        (["--gpu", "x"], "--gpu: 'x' is not a GPU: write its number"),
        (["-n", "0"], "-n: 0 is out of range"),
        (["--since", "1h", "--after", "1-1"], "--after and --since cannot be used together"),
        (["--follow", "--until", "1h"], "--follow and --until cannot be used together"),
    ],
)
def test_what_cannot_be_asked(past: Daemon, words: list[str], said: str) -> None:
    """It is one line on stderr and exit code 2."""
    done = past.run("events", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
