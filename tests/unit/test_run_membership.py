"""The run that a process belongs to if its parent ended before any scan saw it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.people import Person
from support.proc import Host, whose

from canhazgpu.events.linux.processes import Process, start_time_of
from canhazgpu.service.identity.attribution import Attributor

CLAIM = "CANHAZGPU_RESERVATION=r7\0"


@pytest.fixture
def other(tmp_path: Path) -> Host:
    """Another host: r7 is the run of pid 10, which is in session 9."""
    host = Host(tmp_path)
    host.put(10, 0, start=3, session=9)
    return host


@pytest.fixture
def job(people: list[Person]) -> Iterator[tuple[Process, int]]:
    """Return the first process of a run, and a child of another user whose parent has ended."""
    person = people[0]
    become = " ".join(person.command("sleep", "600"))
    process = subprocess.Popen(
        ["sh", "-c", f"({become} >/dev/null & echo $!); exec sleep 600"],
        env={**os.environ, "CANHAZGPU_RESERVATION": "r7"},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    child = int(process.stdout.readline())
    until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
    start = start_time_of(process.pid)
    assert start is not None
    yield Process(process.pid, start), child
    person.remove()
    process.kill()
    process.wait()
    process.stdout.close()


def of_r7(host: Host, pid: int, first: Process | None = None) -> str | None:
    """Return the run of a process, as seen by a service that has just started."""
    attributor = host.attributor()
    attributor.runs = {"r7": first or Process(10, 3)}
    return whose(pid, attributor).run


def test_what_the_run_left_behind_is_still_the_runs(job: tuple[Process, int], people: list[Person]) -> None:
    """A process whose parents have ended belongs to its run, also with another uid."""
    first, child = job
    attributor = Attributor()
    attributor.runs = {"r7": first}
    found = whose(child, attributor)
    assert (found.run, found.person) == ("r7", people[0].name)


def test_who_only_copies_the_reservation_is_not_the_runs(
    job: tuple[Process, int], people: list[Person]
) -> None:
    """A copied reservation id in the environment does not make a process a member."""
    attributor = Attributor()
    attributor.runs = {"r7": job[0]}
    forger = people[1].spawn("env", "CANHAZGPU_RESERVATION=r7", "sleep", "600")
    until(lambda: Path(f"/proc/{forger.pid}/comm").read_text() == "sleep\n")
    found = whose(forger.pid, attributor)
    assert (found.run, found.person) == (None, people[1].name)


@pytest.mark.parametrize(
    ("session", "claim", "run"),
    [(9, CLAIM, "r7"), (9, "", None), (9, CLAIM.replace("7", "8"), None), (8, CLAIM, None), (0, CLAIM, None)],
)
def test_it_takes_the_claim_and_the_session(other: Host, session: int, claim: str, run: str | None) -> None:
    """A process needs both the claim and the session of the run."""
    other.put(12, 1002, session=session)
    other.give(12, environ=claim)
    assert of_r7(other, 12) == run


@pytest.mark.parametrize(
    ("login", "claim", "run"),
    [("4", CLAIM, "r7"), ("4", "", None), ("5", CLAIM, None), ("4294967295", CLAIM, None), ("", CLAIM, None)],
)
def test_the_login_counts_as_the_session_does(other: Host, login: str, claim: str, run: str | None) -> None:
    """A daemon in a session of its own comes from the same login; without a login it says nothing."""
    other.give(10, sessionid="4" if login != "4294967295" else login)
    other.put(12, 1002, session=12)
    other.give(12, environ=claim, sessionid=login)
    assert of_r7(other, 12) == run


def test_sessions_of_another_pid_namespace_are_not_one(other: Host) -> None:
    """Sessions of another PID namespace do not match; they all have the number 0."""
    other.put(10, 0, start=3, session=0)
    other.put(12, 1002, session=0)
    other.give(12, environ=CLAIM)
    assert of_r7(other, 12) is None


def test_a_run_whose_first_process_has_ended_gets_no_more_members(other: Host) -> None:
    """A run whose first process has ended gets no new members, because ids are reused."""
    other.put(12, 1002, session=9)
    other.give(12, environ=CLAIM)
    assert of_r7(other, 12, Process(10, 2)) is None
    assert of_r7(other, 12, Process(11, 3)) is None


def test_what_an_earlier_service_saw_counts_also_if_it_comes_late(other: Host) -> None:
    """Redis, which knows, can be away for the first scans of a service."""
    attributor = other.attributor()
    attributor.runs = {"r7": Process(10, 3)}
    other.put(12, 1002, session=9)
    other.give(12, environ=CLAIM)
    before = whose(12, attributor)
    assert before.run == "r7"
    other.put(12, 1002, session=12)
    later = other.attributor()
    assert whose(12, later).run is None
    later.remember([before])
    assert whose(12, later).run == "r7"


def test_a_member_stays_one(other: Host) -> None:
    """A member stays a member in a new session and after the end of the first process."""
    attributor = other.attributor()
    attributor.runs = {"r7": Process(10, 3)}
    other.put(12, 1002, session=9)
    other.give(12, environ=CLAIM)
    assert whose(12, attributor).run == "r7"
    other.put(12, 1002, session=12, name="renamed")
    attributor.runs = {}
    assert whose(12, attributor).run == "r7"
