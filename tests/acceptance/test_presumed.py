"""Use without a proven user on a reserved GPU: presumed to be the holder's until they disown it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.people import Person

from canhazgpu.events.timestamps import ms_of

CONFIRM_MS = 600  # Twice what makes use a violation here.


@pytest.fixture
def services() -> Iterator[int]:
    """A process of root without a login."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def held(host: Daemon, people: list[Person], services: int) -> Daemon:
    """Alice holds GPU 0, which a service uses."""
    host.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in host.status())
    assert host.run("reserve", "--gpu-ids", "0", person=people[0]).returncode == 0
    host.place(gpu(0, use(services, 900)), gpu(1))
    until(lambda: "1 presumed" in host.status())
    return host


def test_it_is_shown_as_presumed_and_told_to_nobody(
    held: Daemon, people: list[Person], services: int
) -> None:
    """`status` counts it as presumed; there is no violation and no notice."""
    line = held.status().splitlines()[0]
    assert line.startswith(f"GPU 0: IN USE by {people[0].name} for ")
    assert line.endswith(" [validated: 900MB, 1 processes, 1 presumed]")
    (row, _) = json.loads(held.run("status", "--json").stdout)
    assert ([one["pid"] for one in row["presumed"]], row["others"]) == ([services], [])
    _scans(held)
    assert json.loads(held.run("violations", "--json").stdout) == held.facts() == []


def test_the_holder_says_that_it_is_not_theirs(held: Daemon, people: list[Person], services: int) -> None:
    """`disown` opens a violation without a proven user, and `--undo` closes it."""
    alice, bob = people
    done = held.run("disown", "--gpu-ids", "0", person=alice)
    assert (done.returncode, done.stdout) == (0, "GPU 0: the use by root is not yours\n")
    until(lambda: ", also used by user root - " in held.status())
    (data,) = until(held.facts)
    assert (data["kind"], data["user"], data["person"], data["holder"]) == (
        "trespass",
        "root",
        None,
        alice.name,
    )
    assert [one["pid"] for one in data["processes"]] == [services]
    again = held.run("disown", person=alice)
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    assert again.stdout.startswith("Nothing to disown")
    refused = held.run("disown", "--gpu-ids", "0", person=bob)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert held.run("disown", "--undo", person=bob).stdout.startswith("Nothing to undo")
    assert held.run("disown", "--undo", "--json", person=alice).stdout.strip() == json.dumps(
        [{"gpu": 0, "users": None}], indent=2
    )
    until(lambda: "1 presumed" in held.status())
    until(lambda: held.facts()[-1].get("reason") == "reserved")


def test_the_time_line_shows_that_it_was_disowned(held: Daemon, people: list[Person]) -> None:
    """The event has the users."""
    held.run("disown", person=people[0])
    found = held.run("events", "--type", "reservation.disowned", "--json")
    assert '"disowned":["root"]' in found.stdout.replace(" ", "")


def _scans(host: Daemon) -> None:
    """Wait for scans that would confirm a violation."""
    seen: set[str] = set()

    def is_confirmed() -> bool:
        seen.add(json.loads(host.run("status", "--json").stdout)[0]["scanned_at"])
        moments = sorted(map(ms_of, seen))
        return len(moments) > 3 and moments[-1] - moments[0] > CONFIRM_MS

    until(is_confirmed)


def _sleeping(words: list[str]) -> "subprocess.Popen[bytes]":
    """Return a process that has become `sleep`: before, it is root's, or the person's who logged in."""
    process = subprocess.Popen(words)
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
    return process


SERVICE = 998  # Below UID_MIN, with or without a name.


def test_a_run_under_sudo_is_the_persons_own(host: Daemon, people: list[Person]) -> None:
    """A run under sudo belongs to the user who logged in: nobody is accused, and it counts as used."""
    alice, _ = people
    words = alice.sudo(*COMMAND, "run", "--", "sleep", "600")
    run = subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: "GPU 0: IN USE by root for" in host.status())
        host.place(gpu(0, use(run.pid, 5000)))
        until(lambda: "[validated: 5000MB, 1 processes]" in host.status())
        (row,) = json.loads(host.run("status", "--json").stdout)
        assert ([one["user"] for one in row["processes"]], row["others"]) == ([alice.name], [])
        _scans(host)
        assert json.loads(host.run("violations", "--json").stdout) == host.facts() == []
    finally:
        run.kill()
        run.wait()
    host.place(gpu(0))
    until(lambda: "AVAILABLE" in host.status())


def test_use_under_sudo_is_adopted_by_who_logged_in(host: Daemon, people: list[Person]) -> None:
    """Alice adopts use that she started as a service account by reserving; bob cannot."""
    alice, bob = people
    service = ["setpriv", f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups", "sleep", "600"]
    process = _sleeping(alice.sudo(*service))
    try:
        host.place(gpu(0, use(process.pid, 5000)))
        until(host.facts)
        (row,) = json.loads(host.run("status", "--json").stdout)
        assert row["users"] == [alice.name]
        assert host.run("reserve", "--gpus", "1", person=bob).returncode == 1
        done = host.run("reserve", "--gpus", "1", person=alice)
        assert done.returncode == 0, done.stderr
        until(lambda: host.facts()[-1].get("reason") == "reserved")
    finally:
        process.kill()
        process.wait()


def test_what_another_person_does_in_ones_login_is_not_ones_own(host: Daemon, people: list[Person]) -> None:
    """After `su - bob` in alice's login, neither hides or adopts the other's use."""
    alice, bob = people
    process = _sleeping(alice.sudo(*bob.command("sleep", "600")))
    try:
        host.place(gpu(0, use(process.pid, 5000)))
        until(host.facts)
        assert host.run("reserve", "--gpus", "1", person=alice).returncode == 1
        host.place(gpu(0))
        until(lambda: "AVAILABLE" in host.status())
        words = alice.sudo(*bob.command(*COMMAND, "reserve", "--gpus", "1"))
        subprocess.run(words, env=host.environment, check=True, capture_output=True)
        host.place(gpu(0, use(alice.spawn("sleep", "600").pid, 5000)))
        data = until(lambda: [fact for fact in host.facts() if fact["kind"] == "trespass"])[0]
        assert (data["person"], data["holder"]) == (alice.name, bob.name)
    finally:
        process.kill()
        process.wait()
