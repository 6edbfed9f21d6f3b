"""`who` and `history`: who has what now, and which reservations have ended."""

import json
import re
import subprocess
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person

from canhazgpu.client import Client


@pytest.fixture
def four(host: Daemon) -> Daemon:
    """Four GPUs; bob uses GPU 3 without a reservation."""
    host.place(*(gpu(index) for index in range(3)), gpu(3, use(5012345, 2048, "bob", "python3")))
    until(lambda: "by user bob" in host.status())
    return host


def ended(host: Daemon, *words: str) -> list[dict[str, Any]]:
    """Return what `history --json` prints."""
    done = host.run("history", *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_who(four: Daemon) -> None:
    """One row for each user: GPUs as ranges, until when, memory, use without a reservation, waiting."""
    assert four.run("reserve", "--gpus", "3", "--duration", "30d").returncode == 0
    waiting = subprocess.Popen(
        [*COMMAND, "run", "--new", "--gpus", "2", "--wait", "--", "true"], env=four.environment
    )
    try:
        until(lambda: Client(str(four.folder / "s")).get("/v1/queue"))
        shown = four.run("who").stdout
        rows = json.loads(four.run("who", "--json").stdout)
    finally:
        waiting.kill()
        waiting.wait()
    head, root, bob = shown.splitlines()
    assert head.split() == [*("USER", "GPUS", "SINCE", "UNTIL", "GIB", "PROCESSES", "UNRESERVED", "WAITING")]
    since, end = r"(\d\d-\d\d )?\d\d:\d\d \S+", r"\d\d-\d\d \d\d:\d\d \S+"
    assert re.fullmatch(rf"root  0-2 +{since} +{end} +- +- +- +1 for 2 GPUs", root), root
    assert re.fullmatch(r"bob   - +- +- +2\.0 +1  3 +-", bob), bob
    assert [(row["user"], row["gpus"], row["unreserved"], row["waiting_gpus"]) for row in rows] == [
        ("root", [0, 1, 2], [], 2),
        ("bob", [], [3], 0),
    ]


def test_nobody_is_said(host: Daemon) -> None:
    """On an idle host there is one line, and an empty array."""
    until(lambda: "AVAILABLE" in host.status())
    assert host.run("who").stdout == "Nobody holds, uses or waits for a GPU.\n"
    assert json.loads(host.run("who", "--json").stdout) == []


def test_history_of_mine_of_a_user_and_of_a_gpu(four: Daemon, people: list[Person]) -> None:
    """Without a choice one's own; a GPU's are everybody's; each with its end, its reason and its hours."""
    alice = people[0]
    assert four.run("run", "--gpus", "2", "--note", "first try", "--", "true").returncode == 0
    assert four.run("reserve", "--gpu-ids", "2", person=alice).returncode == 0
    assert four.run("admin", "release", "--gpu-ids", "2").returncode == 0
    until(lambda: four.status().count(": AVAILABLE") == 3)
    (mine,) = ended(four)
    assert (mine["user"], mine["kind"], mine["gpus"], mine["reason"]) == ("root", "run", [0, 1], "exited")
    assert mine["note"] == "first try"
    (theirs,) = ended(four, "--user", alice.name)
    assert (theirs["gpus"], theirs["reason"], theirs["by"]) == ([2], "admin", "root")
    assert [row["user"] for row in ended(four, "--gpu", "2")] == [alice.name]
    assert [row["user"] for row in ended(four, "--gpu", "0")] == ["root"]
    card = json.loads(four.run("status", "--json").stdout)[2]["uuid"]
    assert [row["user"] for row in ended(four, "--gpu", card[:14])] == [alice.name]
    assert ended(four, "--user", "mallory") == []
    assert ended(four, "--until", "yesterday", "--since", "30d") == []
    assert [row["id"] for row in ended(four, "--since", "1h")] == [mine["id"]]
    seen = json.loads(four.run("history", "--json", person=alice).stdout)
    assert [row["id"] for row in seen] == [theirs["id"]]

    head, row, _, total = four.run("history").stdout.splitlines()
    assert head.split() == ["ENDED", "GPUS", "LASTED", "KIND", "WHY", "NOTE"]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d \S+  0,1 +0h 0m \d+s  run   command ended  first try", row
    ), row
    assert total == "1 in all, 0.0 GPU-hours"
    row = four.run("history", "--gpu", "2").stdout.splitlines()[1]
    assert re.search(rf"{alice.name} +2 .* manual  administrator", row), row


def test_only_the_newest(host: Daemon) -> None:
    """`-n` shows the newest, oldest first, and says that there may be more."""
    for note in ("one", "two", "three"):
        assert host.run("run", "--note", note, "--", "true").returncode == 0
        until(lambda: "AVAILABLE" in host.status())
    assert [row["note"] for row in ended(host)] == ["one", "two", "three"]
    assert [row["note"] for row in ended(host, "-n", "2")] == ["two", "three"]
    done = host.run("history", "-n", "2")
    assert done.stderr == "There may be older ones: a larger number, such as -n 20, shows them.\n"
    with host.redis() as redis:
        redis.delete("canhazgpu:{testhost}:ledger")
    last = "ended in the last 7 days; --since 30d looks further back.\n"
    assert host.run("history").stdout == f"No reservation of yours {last}"
    assert host.run("history", "--gpu", "0").stdout == f"No reservation on GPU 0 {last}"
    assert host.run("history", "--user", "bob").stdout == f"No reservation of bob {last}"
    shown = host.run("history", "--user", "bob", "--gpu", "0", "--since", "2h").stdout
    assert shown == "No reservation of bob on GPU 0 ended in that period.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "0"], "-n: 0 is out of range"),
        (["--gpu", "x"], "--gpu: 'x' is not a GPU: write its number"),
        (["--since", "soon"], "--since: 'soon' is not a duration"),
    ],
)
def test_what_cannot_be_asked(host: Daemon, words: list[str], said: str) -> None:
    """It is one line on stderr and exit code 2."""
    done = host.run("history", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_partial_release_has_its_own_row(four: Daemon) -> None:
    """GPUs that are released one after the other are rows of the same reservation."""
    assert four.run("reserve", "--gpus", "3").returncode == 0
    assert four.run("release", "--gpu-ids", "1").returncode == 0
    assert four.run("release").returncode == 0
    first, second = ended(four)
    assert first["id"] == second["id"]
    assert (first["gpus"], first["kept"]) == ([1], [0, 2])
    assert (second["gpus"], second["kept"]) == ([0, 2], None)


def test_the_sum_is_of_all_only_if_all_are_shown(four: Daemon) -> None:
    """With -n, more may have ended than those that are summed up."""
    for _ in range(2):
        assert four.run("reserve").returncode == 0
        assert four.run("release").returncode == 0
    done = four.run("history", "-n", "1")
    assert done.stdout.splitlines()[-1] == "1 shown, 0.0 GPU-hours"
    done = four.run("history")
    assert (done.stdout.splitlines()[-1], done.stderr) == ("2 in all, 0.0 GPU-hours", "")
