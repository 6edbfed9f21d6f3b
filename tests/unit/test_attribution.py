"""The owner of a process, tested with real processes of real users and with /proc trees of other hosts."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.chosen_pid import running_as
from support.daemon import until
from support.descriptors import none_left
from support.people import Person
from support.proc import Host, reading, whose

from canhazgpu.events.gpu import ProcessReading
from canhazgpu.events.linux.processes import start_time_of
from canhazgpu.service.identity.attribution import Attributor

NAMELESS = 54321
A = "a1" * 32


@contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Return a function that ends a process when the test is over."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()


@pytest.fixture
def other(tmp_path: Path) -> Host:
    """Another host, as a /proc tree."""
    return Host(tmp_path)


def test_a_process_that_has_gone_is_nobodys() -> None:
    """A process that has ended has no owner, even if it was known before."""
    attributor = Attributor()
    with ended(subprocess.Popen(["sleep", "60"])) as process:
        assert attributor.attribute(reading(process.pid))
    assert attributor.attribute(reading(process.pid)) is None
    assert attributor.attribute(reading(2**22 + 1)) is None
    assert attributor.attribute(reading(-1)) is None


def test_a_process_that_cannot_be_looked_at_has_not_gone() -> None:
    """If there is no file descriptor left to look at a process, that is an error.

    The process does not count as ended.
    """
    attributor = Attributor()
    with ended(subprocess.Popen(["sleep", "60"])) as process:
        before = attributor.attribute(reading(process.pid))
        with none_left(), pytest.raises(OSError, match="Too many open files"):
            attributor.attribute(reading(process.pid))
        assert attributor.attribute(reading(process.pid)) == before


def test_a_process_of_a_real_user_is_theirs(people: list[Person]) -> None:
    """A process of a real user has that user's name and uid, and the evidence is the uid."""
    attributor = Attributor()
    for person in people:
        with ended(person.spawn("sleep", "60")) as process:
            found = whose(process.pid, attributor, 5)
            assert (found.user, found.person, found.uid) == (person.name, person.name, person.uid)
            assert (found.evidence, found.name, found.memory_mb) == ("uid", "sleep", 5)
            assert found.start


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_a_uid_without_a_name_is_shown_as_a_number() -> None:
    """A uid without a name (a removed user, or a directory that is down) is shown as a number."""
    with ended(subprocess.Popen(["sleep", "60"], user=NAMELESS, group=NAMELESS, extra_groups=[])) as process:
        found = Attributor().attribute(reading(process.pid))
    assert found
    assert (found.user, found.uid, found.evidence) == (str(NAMELESS), NAMELESS, "uid")


def test_a_pid_that_was_given_to_another_user_is_theirs(other: Host) -> None:
    """If another user's process has the same pid, it is recognised by its start and uid."""
    attributor = other.attributor()
    other.put(7, 1001, start=5, name="old")
    other.put(8, 1001, start=5, name="old")
    before = [attributor.attribute(reading(pid)) for pid in (7, 8)]
    other.put(7, 1002, start=6, name="new")
    other.put(8, 1002, start=5, name="new")
    for pid, old in zip((7, 8), before, strict=True):
        found = attributor.attribute(reading(pid))
        assert old
        assert found
        assert (old.uid, old.name) == (1001, "old")
        assert (found.uid, found.name) == (1002, "new")


@pytest.mark.skipif(os.getuid() != 0, reason="only root chooses pids")
def test_a_pid_that_the_kernel_gave_again_is_the_new_process(people: list[Person]) -> None:
    """If the kernel reuses a pid for another user's process, the new process is attributed to that user."""
    attributor = Attributor()
    with ended(people[0].spawn("sleep", "60")) as first:
        assert attributor.attribute(reading(first.pid))
        start = start_time_of(first.pid) or 0
    until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") > start + 1)
    with running_as(first.pid, "sleep", "60", uid=people[1].uid):
        found = whose(first.pid, attributor)
        assert found.user == people[1].name
        assert start_time_of(first.pid) != start


def test_a_process_that_changes_its_name_is_shown_with_the_new_one() -> None:
    """A process that changes its name with exec or prctl is shown with the new name."""
    attributor = Attributor()
    script = ["sh", "-c", "read line; exec sleep 60"]
    with ended(subprocess.Popen(script, stdin=subprocess.PIPE)) as process:
        first = attributor.attribute(reading(process.pid))
        assert first
        assert first.name == "sh"
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        second = attributor.attribute(reading(process.pid))
    assert second
    assert second.name == "sleep"


def test_a_hostile_name_is_one_visible_line(tmp_path: Path) -> None:
    """Parentheses, line breaks and escapes in a process name are shown as one harmless line."""
    program = tmp_path / "a) R (\n\x1b[1m"
    program.symlink_to("/bin/sleep")
    with ended(subprocess.Popen([str(program), "60"])) as process:
        found = Attributor().attribute(reading(process.pid))
    assert found
    assert found.name == r"a) R (\n\x1b[1m"


@pytest.mark.parametrize("broken", ["stat", "status", "cgroup"])
def test_a_process_that_ends_while_it_is_read_is_nobodys(other: Host, broken: str) -> None:
    """A process that ends while it is read has no owner, whichever file is missing first."""
    other.put(1, 1002)
    path = other.proc / "1" / broken
    if broken in {"stat", "status"}:
        path.write_text("1 (cut")
        assert other.attributor().attribute(reading(1)) is None
    path.unlink()
    assert other.attributor().attribute(reading(1)) is None


def test_what_a_scenario_makes_up_is_taken_as_it_is(people: list[Person]) -> None:
    """A simulated process needs no real process if it has a user and a name; both are made safe to print."""
    attributor = Attributor()
    made_up = ProcessReading(pid=2**22 + 1, memory_mb=5, user=people[0].name, name="a\x1bb")
    attributor.attribute(made_up)
    attributor.users.wait(30)
    found = attributor.attribute(made_up)
    assert found
    assert (found.user, found.uid, found.person) == (people[0].name, people[0].uid, people[0].name)
    assert (found.name, found.memory_mb) == (r"a\x1bb", 5)
    assert attributor.attribute(ProcessReading(pid=2**22 + 1, memory_mb=5, user="bob")) is None
    renamed = attributor.attribute(ProcessReading(pid=os.getpid(), memory_mb=5, name="train"))
    assert renamed
    assert (renamed.name, renamed.start is not None) == ("train", True)
    stranger = attributor.attribute(ProcessReading(pid=os.getpid(), memory_mb=5, user="no\x00body"))
    assert stranger
    assert (stranger.user, stranger.uid) == (r"no\x00body", None)


def test_memory_is_that_of_this_scan() -> None:
    """The memory of a process is that of the current scan; it is not cached."""
    attributor = Attributor()
    seen = [attributor.attribute(reading(os.getpid(), memory_mb)) for memory_mb in (5, 7, None, 5)]
    assert [one.memory_mb for one in seen if one] == [5, 7, None, 5]
