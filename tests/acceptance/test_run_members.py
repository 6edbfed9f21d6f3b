"""What a run started as another user stays the run's, and nobody else gets in."""

import os
import signal
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person
from support.runs import SAY, Run


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.parametrize("restarted", [False, True])
def test_what_has_become_another_user_is_still_the_runs(
    host: Daemon, runs: list[Run], people: list[Person], *, restarted: bool
) -> None:
    """A process that a run started as another user belongs to the run; one with a copied id does not."""
    became, forger = people
    words = " ".join(became.command("sleep", "600"))
    runs.append(Run(host, f'{SAY} ({words} >/dev/null & echo "$! $CANHAZGPU_RESERVATION"); exec sleep 600'))
    child, reservation = runs[0].line().split()
    copy = forger.spawn("env", f"CANHAZGPU_RESERVATION={reservation}", "sleep", "600")
    host.place(gpu(0, use(int(child), 5000)), gpu(1))
    until(lambda: "[validated: 5000MB, 1 processes]" in host.status())
    if restarted:
        host.stop()
        host.start()
    host.place(gpu(0, use(int(child), 5000), use(copy.pid, 4000)), gpu(1))
    until(lambda: f"also used by user {forger.name}" in host.status())
    assert became.name not in host.status()
    (violation,) = until(host.facts)
    assert [one["pid"] for one in violation["processes"]] == [copy.pid]


def test_what_a_run_of_root_left_behind_is_the_runs(
    host: Daemon, runs: list[Run], people: list[Person]
) -> None:
    """A daemon in a session of its own and without the environment, which no scan saw with its parent."""
    became, other = people
    words = " ".join(became.command("sleep", "600"))
    daemon = f"env -u CANHAZGPU_RESERVATION setsid {words}"
    runs.append(Run(host, f"{SAY} ({daemon} >/dev/null & echo $!); exec sleep 600"))
    child = int(runs[0].line())
    until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
    copy = other.spawn("sleep", "600")
    host.place(gpu(0, use(child, 5000), use(copy.pid, 4000)), gpu(1))
    until(lambda: f"also used by user {other.name}" in host.status())
    assert became.name not in host.status()
    (violation,) = until(host.facts)
    assert [one["pid"] for one in violation["processes"]] == [copy.pid]
    runs[0].end()
    until(lambda: "lingering) [validated: 5000MB, 1 processes]" in host.status())


def is_orphan(pid: int, run: int) -> bool:
    """Return whether the subshell between the first process of the run and this one has ended."""
    try:
        return parent_of(parent_of(pid)) != run
    except FileNotFoundError:  # It ends at this moment.
        return False


@pytest.mark.parametrize("by_root", [True, False])
def test_only_roots_commands_become_the_parents_of_orphans(
    host: Daemon, runs: list[Run], people: list[Person], *, by_root: bool
) -> None:
    """A command of anybody else is as without `run`: its orphans leave it no zombies."""
    script = f"{SAY} (sleep 600 >/dev/null & echo $!); exec sleep 600"
    runs.append(Run(host, script, person=None if by_root else people[0]))
    orphan = int(runs[0].line())
    until(lambda: is_orphan(orphan, runs[0].process.pid))
    assert (parent_of(orphan) == runs[0].process.pid) is by_root


def test_what_left_the_session_is_still_the_runs_after_a_restart(
    host: Daemon, runs: list[Run], people: list[Person]
) -> None:
    """A process that was seen as part of the run stays in it, in its own session and without its parent."""
    became, other = people
    words = " ".join(became.command("sleep", "600"))
    runs.append(
        Run(host, f"{SAY} sh -c 'setsid {words} >/dev/null & echo $!; exec sleep 600' & wait; exec sleep 600")
    )
    child = int(runs[0].line())
    host.place(gpu(0, use(child, 5000)), gpu(1))
    until(lambda: "[validated: 5000MB, 1 processes]" in host.status())
    os.kill(parent_of(child), signal.SIGKILL)
    host.stop()
    host.start()
    copy = other.spawn("sleep", "600")
    host.place(gpu(0, use(child, 5000), use(copy.pid, 4000)), gpu(1))
    until(lambda: f"also used by user {other.name}" in host.status())
    assert became.name not in host.status()


def test_what_used_too_little_to_count_is_still_the_runs_after_a_restart(
    host: Daemon, runs: list[Run], people: list[Person]
) -> None:
    """A daemon that grows after a restart belongs to the run, although its first process ended before."""
    words = " ".join(people[0].command("sleep", "600"))
    script = f'{SAY} (setsid {words} >/dev/null & a=$!; sleep 600 >/dev/null & echo "$a $!"); exec sleep 600'
    runs.append(Run(host, script, "--gpus", "2"))
    small, large = map(int, runs[0].line().split())
    host.place(gpu(0, use(small, 50)), gpu(1, use(large, 5000)))
    until(lambda: "[validated: 5000MB, 1 processes]" in host.status())
    runs[0].end()
    until(lambda: "lingering" in host.status())
    host.stop()
    host.start()
    host.place(gpu(0, use(small, 4000)), gpu(1, use(large, 5000)))
    until(lambda: "4000MB" in host.status())
    assert "[validated: 4000MB, 1 processes]" in host.status()
    assert people[0].name not in host.status()
    assert host.facts() == []
