"""Silences: administrators silence what they choose, a user acknowledges their own, and both are shown."""

import grp
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.eventually import slowness
from support.people import Person

SUFFIX = re.compile(r" \[silenced for (\d+h \d+m \d+s)\]$")
# From the seed document's scripts.
SED = r"s/.*by users\? \([^-]*\) -.*/\1/p"
GREP = re.compile(r"by users? ([^-]+) - (\d+)MB")
NASTY = "x by user eve - 1MB"


def told(host: Daemon, verb: str) -> list[dict[str, Any]]:
    """The data of the events of silences with this verb."""
    lines = host.run("events", "--json", "--after", "0", "--type", f"silence.{verb}").stdout.splitlines()
    return [json.loads(line)["data"] | {"time": json.loads(line)["time"]} for line in lines]


def status(host: Daemon) -> list[dict[str, Any]]:
    """The GPUs for programs."""
    rows: list[dict[str, Any]] = json.loads(host.run("status", "--json").stdout)
    return rows


def listed(host: Daemon) -> list[dict[str, Any]]:
    """The silences for programs."""
    rows: list[dict[str, Any]] = json.loads(host.run("silence", "list", "--json").stdout)
    return rows


def opened(host: Daemon, count: int) -> None:
    """Wait until so many violations are open."""
    until(lambda: sum(len(row["violations"]) for row in status(host)) == count)


def refused(done: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """What a command that was refused says: one line."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
    assert done.stderr.startswith("Error: ")
    return done.stderr


def users_in(text: str) -> tuple[str, list[tuple[str, str]]]:
    """What the scripts of the seed document find in what `status` prints."""
    found = subprocess.run(["sed", "-n", SED], input=text, capture_output=True, text=True, check=True).stdout
    return found, [match.groups() for line in text.splitlines() if (match := GREP.search(line))]  # type: ignore[misc]


@pytest.fixture
def busy(host: Daemon, people: list[Person]) -> Daemon:
    """Alice is on GPU 0, both are on GPU 1, and bob is on GPU 2, which alice reserved."""
    alice, bob = people
    hers, his = (person.spawn("sleep", "600").pid for person in people)
    host.place(gpu(0), gpu(1), gpu(2))
    until(lambda: "GPU 2: AVAILABLE" in host.status())
    host.run("reserve", "--gpu-ids", "2", person=alice)
    host.place(
        gpu(0, use(hers, 1024)),
        gpu(1, use(hers, 512), use(his, 512)),
        gpu(2, use(hers, 1024), use(his, 1024)),
    )
    assert bob.uid != alice.uid
    opened(host, 4)
    return host


@pytest.fixture(scope="module")
def quiet() -> Iterator[Daemon]:
    """A service for tests that change nothing."""
    with tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp") as name:
        daemon = Daemon(Path(name)).start()
        yield daemon
        daemon.stop()


@pytest.fixture
def administered(folder: Path, people: list[Person]) -> Iterator[Daemon]:
    """A service whose administrators are the group of alice."""
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(f'admin_group = "{grp.getgrgid(people[0].gid).gr_name}"\n' + config.read_text())
    yield daemon.start()
    daemon.stop()


def test_status_shows_it_and_scripts_find_the_same_users(busy: Daemon, people: list[Person]) -> None:
    """`status` adds the remaining time if all violations are silenced; the users stay in their place."""
    alice, bob = people
    before = busy.status()
    assert "silenced" not in before
    assert busy.run("silence", "add", "--user", alice.name, "--for", "2h", "-r", NASTY).returncode == 0
    assert [bool(SUFFIX.search(line)) for line in busy.status().splitlines()] == [True, False, False]
    rows = status(busy)
    assert rows[0]["violations"][0]["silenced_until"] == told(busy, "added")[0]["until"]
    assert {row["user"]: row["silenced_until"] is not None for row in rows[1]["violations"]} == {
        alice.name: True,
        bob.name: False,
    }
    assert busy.run("silence", "add", "--user", bob.name, "--for", "1h", "-r", NASTY).returncode == 0
    assert [(row["silenced_s"] - 1) // 60 for row in status(busy)] == [119, 59, 59]
    after = busy.status()
    assert [bool(SUFFIX.search(line)) for line in after.splitlines()] == [True, True, True]
    bare = [SUFFIX.sub("", line) for line in after.splitlines()]
    assert bare[:2] == before.splitlines()[:2]
    assert users_in(after) == users_in(before)
    assert [name for name, _ in users_in(after)[1]][-1] == bob.name
    assert "eve" not in after


def test_what_is_silenced_is_recorded_all_the_same(busy: Daemon, people: list[Person]) -> None:
    """Silenced violations are recorded, and a silence by program or GPU covers only those."""
    alice = people[0]
    done = busy.run("silence", "add", "--gpu", "0", "--for", "90m", "--reason", "benchmarks")
    assert re.fullmatch(r"Silenced GPU 0 for 1h 30m 0s: 1 open violation now \(s[\d-]+\)\n", done.stdout)
    done = busy.run("silence", "add", "--process", "sleep", "--user", alice.name, "--for", "1h", "-r", "why")
    assert f"Silenced user {alice.name}, process sleep for 1h 0m 0s: 2 open violations now" in done.stdout
    assert (
        "0 open violations" in busy.run("silence", "add", "--process", "x", "--for", "1s", "-r", "y").stdout
    )
    shown = busy.run("silence", "list").stdout
    assert "benchmarks" in shown
    assert [row["gpu"] for row in listed(busy)][-1] == 0
    busy.place(gpu(0), gpu(1), gpu(2))
    opened(busy, 0)
    closed = busy.run("violations", "--json").stdout
    assert [row["state"] for row in json.loads(closed)] == ["closed"] * 4


def test_what_is_left_out_narrows_nothing(quiet: Daemon) -> None:
    """A silence matches by user, GPU and program, each alone or together."""
    chosen: list[tuple[str, str | int]] = [("user", "alice"), ("gpu", 0), ("process", "sleep")]
    for some in chain.from_iterable(combinations(chosen, count) for count in (1, 2, 3)):
        words = [word for name, value in some for word in (f"--{name}", str(value))]
        done = quiet.run("silence", "add", *words, "--for", "1h", "--reason", "x", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        made = json.loads(done.stdout)
        assert {name: made[name] for name, _ in chosen if made[name] is not None} == dict(some)
        assert quiet.run("silence", "expire", made["id"]).returncode == 0


def test_one_that_runs_out_ends_in_time(busy: Daemon) -> None:
    """A silence ends in time, also if no service runs then; the next one publishes its end."""
    assert busy.run("silence", "add", "--gpu", "0", "--for", "1s", "-r", "short").returncode == 0
    (event,) = until(lambda: told(busy, "ended"))
    assert event["ended"] == event["until"] <= event["time"]
    late = datetime.fromisoformat(event["time"]) - datetime.fromisoformat(event["until"])
    assert late.total_seconds() < 5 * slowness()
    busy.run("silence", "add", "--gpu", "1", "--for", "1s", "-r", "short")
    busy.run("silence", "add", "--gpu", "2", "--for", "1h", "-r", "long")
    busy.stop(9)
    busy.start()
    event = until(lambda: told(busy, "ended")[1:])[0]
    assert (event["gpu"], event["ended"]) == (1, event["until"])
    assert [row["gpu"] for row in listed(busy)] == [2]


def test_a_user_acknowledges_their_own(busy: Daemon, people: list[Person]) -> None:
    """Users acknowledge their own violations once per episode, for a limited time, and no others."""
    alice, bob = people
    done = busy.run("silence", "ack", "--for", "1h", "--reason", "paper", person=alice)
    assert re.fullmatch(
        rf"Acknowledged user {alice.name} for 1h 0m 0s: 2 open violations now \(s[\d-]+\)\n", done.stdout
    )
    (row,) = listed(busy)
    assert (row["user"], row["ack"], row["by_uid"], row["reason"]) == (alice.name, True, alice.uid, "paper")
    again = refused(busy.run("silence", "ack", "--for", "10m", person=alice))
    assert again.startswith("Error: you have already acknowledged this episode, until ")
    assert "4h 0m 0s" in refused(busy.run("silence", "ack", "--for", "5h", person=bob))
    words = ("silence", "add", "--user", bob.name, "--for", "1h", "--reason", "x")
    assert "administrators" in refused(busy.run(*words, person=bob))
    assert alice.name in refused(busy.run("silence", "expire", row["id"], person=bob))
    assert busy.run("silence", "expire", row["id"], person=alice).stdout == (
        f"Ended the silence of user {alice.name} ({row['id']})\n"
    )
    assert "already acknowledged" in refused(busy.run("silence", "ack", person=alice))
    assert "no silence" in refused(busy.run("silence", "expire", row["id"], person=alice))
    assert [(event["ended_by"], event["ack"]) for event in told(busy, "ended")] == [(alice.name, True)]
    assert busy.run("silence", "ack", person=bob).returncode == 0
    made = busy.run("silence", "add", "--user", bob.name, "--for", "1h", "-r", "x", "--json").stdout
    assert "root" in refused(busy.run("silence", "expire", json.loads(made)["id"], person=bob))
    busy.place(gpu(0), gpu(1), gpu(2))
    opened(busy, 0)
    assert "no open violation" in refused(busy.run("silence", "ack", person=alice))
    lines = [json.loads(line) for line in busy.log.read_text().splitlines() if line.startswith("{")]
    logged = [(line["action"], line["by"]) for line in lines if line["event"] == "silence"]
    assert logged == [("ack", alice.name), ("expire", alice.name), ("ack", bob.name), ("add", "root")]
    assert len([line for line in lines if line["event"] == "refused"]) == 8


def test_the_administrators_group_may_silence_and_end_any(administered: Daemon, people: list[Person]) -> None:
    """A member of the administrators' group can silence, and end any silence."""
    alice, bob = people
    his = bob.spawn("sleep", "600")
    administered.place(gpu(0, use(his.pid, 1024)))
    opened(administered, 1)
    words = ("silence", "add", "--gpu", "0", "--for", "1h", "--reason", "x")
    refused(administered.run(*words, person=bob))
    assert administered.run(*words, person=alice).returncode == 0
    done = administered.run("silence", "ack", "--json", person=bob)
    name = json.loads(done.stdout)["id"]
    assert administered.run("silence", "expire", name, person=alice).returncode == 0
    assert [event["ended_by"] for event in told(administered, "ended")] == [alice.name]


def test_acknowledging_can_be_turned_off(folder: Path, people: list[Person]) -> None:
    """With `ack_max` 0, nobody can acknowledge."""
    host = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("[notices]\n", '[notices]\nack_max = "0s"\n'))
    host.start()
    try:
        assert "is disabled" in refused(host.run("silence", "ack", person=people[0]))
    finally:
        host.stop()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("add",),
        ("add", "--for", "1h", "--reason", "x"),
        ("add", "--gpu", "0", "--for", "1h"),
        ("add", "--gpu", "0", "--reason", "x"),
        ("add", "--gpu", "0", "--for", "soon", "--reason", "x"),
        ("add", "--gpu", "0", "--for", "0s", "--reason", "x"),
        ("add", "--gpu", "0", "--for", "31d", "--reason", "x"),
        ("add", "--gpu", "0", "--for", "1h", "--reason", " "),
        ("add", "--gpu", "0", "--for", "1h", "--reason", "x" * 201),
        ("add", "--gpu", "-1", "--for", "1h", "--reason", "x"),
        ("add", "--gpu", "7", "--for", "1h", "--reason", "x"),
        ("add", "--gpu", "two", "--for", "1h", "--reason", "x"),
        ("add", "--user", "x" * 65, "--for", "1h", "--reason", "x"),
        ("add", "--user", "", "--for", "1h", "--reason", "x"),
        ("add", "--process", "", "--gpu", "0", "--for", "1h", "--reason", "x"),
        ("ack", "--for", "-1h"),
        ("ack", "--for", ""),
        ("ack", "--reason", ""),
        ("expire",),
        ("expire", "1"),
        ("expire", "s1-1/../x"),
        ("frobnicate",),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(quiet: Daemon, words: tuple[str, ...]) -> None:
    """Bad input is one line and exit code 2, and no silence is added."""
    assert "Traceback" not in refused(quiet.run("silence", *words), 2)
    assert listed(quiet) == []


def test_completion_knows_the_words(quiet: Daemon) -> None:
    """Shell completion offers the commands of `silence`."""
    asked = {**quiet.environment, "_CANHAZGPU_COMPLETE": "complete_bash"}
    asked |= {"COMP_WORDS": "canhazgpu silence ", "COMP_CWORD": "2"}
    words = subprocess.run(COMMAND, env=asked, capture_output=True, text=True, check=False)
    assert set(words.stdout.split()) == {"add", "ack", "list", "expire"}
