"""Ending processes of real users: only the right ones, only existing ones, step by step."""

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person, Terminal

from canhazgpu.config.notices import Notices
from canhazgpu.config.notices import Terminate as Rules
from canhazgpu.config.settings import Settings, Violations
from canhazgpu.events.gpu import ProcessUse
from canhazgpu.events.notices import Notice
from canhazgpu.events.violations import Signalled, Violation
from canhazgpu.notifiers.channels.terminate import Terminate

pytestmark = pytest.mark.anyio
STUBBORN = (
    "import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n"
    "signal.signal(10, print)\ntime.sleep(600)"
)
POLITE = (
    "import signal, time, sys\nsignal.signal(2, lambda *a: sys.exit(0))\n"
    "signal.signal(10, print)\ntime.sleep(600)"
)


def start_of(pid: int) -> int:
    """Return the start of a process, in clock ticks."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[19])


def python(person: Person, program: str) -> "subprocess.Popen[bytes]":
    """Start a program as a user, and wait until it handles its signals."""
    process = person.spawn("/usr/bin/env", "python3", "-c", program)

    def minds() -> bool:
        rows = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return bool(int(next(row.split()[1] for row in rows if row.startswith("SigCgt")), 16) & 1 << 9)

    until(minds, 30)
    return process


def process_use(who: Person, process: int, **facts: Any) -> ProcessUse:
    """Return a process as a scan reports it."""
    values: dict[str, Any] = {
        "pid": process,
        "name": "python3",
        "user": who.name,
        "memory_mb": 900,
        "uid": who.uid,
        "start": start_of(process),
        "person": who.name,
        "evidence": "uid",
        **facts,
    }
    return ProcessUse(**values)


def violation(who: Person, *processes: ProcessUse, **facts: Any) -> Violation:
    """Return a violation of a user."""
    values: dict[str, Any] = {
        "violation": "v1",
        "kind": "unreserved",
        "gpu": 0,
        "gpu_uuid": "GPU-0",
        "gpu_name": "H100",
        "key": f"uid:{who.uid}",
        "user": who.name,
        "uid": who.uid,
        "person": who.name,
        "evidence": "uid",
        "since": "2026-01-01T00:00:00.000Z",
        "memory_mb": 900,
        "peak_memory_mb": 900,
        "processes": processes,
        **facts,
    }
    return Violation(**values)


class Ended(NamedTuple):
    """Return the outcome."""

    recipient: str
    verdict: str
    signalled: list[Signalled]


async def end(
    told: Violation,
    now: Violation | str | None = None,
    *,
    dry_run: bool = False,
    grace: float = 120.0,
    **settings: Any,
) -> Ended:
    """Deliver a terminate notice about `told`; `now` is the last scan, by default the same."""
    chosen = Settings(
        notices=Notices(terminate=Rules(enabled=True, interrupt_grace=grace, terminate_grace=grace)),
        violations=Violations(**settings),
    )
    current = told if now is None else now

    async def open_now() -> dict[str, Violation] | None:
        return None if isinstance(current, str) else {current.violation: current}

    notice = Notice(
        notice="n1",
        kind="terminate",
        episode="v1",
        host="h",
        user=told.user,
        uid=told.uid,
        person=told.person,
        created="x",
        violations=(told,),
        dry_run=dry_run,
    )
    facts: list[Signalled] = []

    async def record(sent: list[Signalled]) -> None:
        facts.extend(sent)

    channel = Terminate(chosen, open_now, record)
    recipients = await channel.recipients(notice)
    if not recipients:
        return Ended("", "nobody", [])
    (outcome,) = await channel.deliver(notice, recipients, None)
    return Ended(outcome.recipient, outcome.verdict, facts)


async def test_a_polite_process_hears_sigint_and_no_more(people: list[Person]) -> None:
    """One signal is sent and recorded, and the process ends."""
    process = python(people[0], POLITE)
    outcome = await end(violation(people[0], process_use(people[0], process.pid)))
    assert process.wait(60) == 0
    assert [(fact.signal, fact.outcome, fact.pid) for fact in outcome.signalled] == [
        ("INT", "sent", process.pid)
    ]
    assert (outcome.verdict, outcome.recipient) == ("delivered", people[0].name)


async def test_a_stubborn_process_is_killed_in_the_end(people: list[Person]) -> None:
    """SIGINT, SIGTERM and SIGKILL follow after their grace periods."""
    process = python(people[0], STUBBORN)
    outcome = await end(violation(people[0], process_use(people[0], process.pid)), grace=0.4)
    assert process.wait(60) == -9
    assert [fact.signal for fact in outcome.signalled if fact.outcome == "sent"] == ["INT", "TERM", "KILL"]


async def test_a_dry_run_ends_nothing(people: list[Person]) -> None:
    """A dry run records what would have been done."""
    process = python(people[0], POLITE)
    outcome = await end(violation(people[0], process_use(people[0], process.pid)), dry_run=True)
    assert process.poll() is None
    assert [(fact.signal, fact.outcome) for fact in outcome.signalled] == [("INT", "dry-run")]
    assert outcome.verdict == "dry-run"


LEFT_ALONE: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "another process by that pid": ({"start": 1}, {}, {}, "gone"),
    "a root process": ({"uid": 0}, {}, {}, "of the system"),
    "a process of a system user": ({"uid": 999}, {}, {}, "of the system"),
    "the first process": ({"pid": 1}, {}, {}, "of the system"),
    "another user's by its uid": ({"uid": 65000}, {}, {}, "now belongs to another user"),
    "nobody's": ({"person": None, "evidence": "unknown"}, {}, {}, "not proven to be theirs"),
    "a container's claim": ({"evidence": "label"}, {}, {}, "not proven to be theirs"),
    "somebody else's": ({"person": "carol"}, {}, {}, "not proven to be theirs"),
    "an exempt program": ({"program": "/usr/lib/xorg/Xorg"}, {}, {}, "exempt"),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
async def test_what_is_left_alone(people: list[Person], case: str) -> None:
    """If anything is in doubt, no signal is sent and the reason is recorded."""
    facts, about, settings, why = LEFT_ALONE[case]
    process = python(people[0], POLITE)
    outcome = await end(
        violation(people[0], process_use(people[0], process.pid, **facts), **about), **settings
    )
    assert process.poll() is None
    assert [fact.outcome for fact in outcome.signalled] == [why]
    assert outcome.verdict == "skipped"


async def test_an_exempt_user_is_left_alone(people: list[Person]) -> None:
    """A process that became exempt after the violation was opened is left alone."""
    process = python(people[0], POLITE)
    told = violation(people[0], process_use(people[0], process.pid))
    outcome = await end(told, exempt_users=[people[0].name])
    assert process.poll() is None
    assert [fact.outcome for fact in outcome.signalled] == ["exempt"]


async def test_without_a_person_nobody_is_touched(people: list[Person]) -> None:
    """A violation without a proven user has no recipient."""
    process = python(people[0], POLITE)
    told = violation(people[0], process_use(people[0], process.pid), person=None)
    assert (await end(told)).verdict == "nobody"
    assert process.poll() is None


async def test_what_has_left_the_gpu_is_left_alone(people: list[Person]) -> None:
    """A process that the last scan does not show there is left alone, also if the scan is too old."""
    process = python(people[0], POLITE)
    told = violation(people[0], process_use(people[0], process.pid))
    assert (await end(told, violation(people[0]))).verdict == "skipped"
    assert (await end(told, violation(people[0], violation="v2"))).verdict == "skipped"
    outcome = await end(told, "no scan")
    assert [fact.outcome for fact in outcome.signalled] == ["not seen recently"]
    assert process.poll() is None


TERMINATE = """
[[notices.steps]]
channels = ["wall", "log"]
to = ["offender"]
[[notices.steps]]
after = "1s"
channels = ["terminate"]
to = ["offender"]
[notices.terminate]
enabled = true
dry_run = {dry}
after_notices = 1
interrupt_grace = "300ms"
terminate_grace = "300ms"
max_per_hour = 1
"""


def serve(folder: Path, dry: str) -> Daemon:
    """Start a service that ends processes."""
    return Daemon(folder, TERMINATE.format(dry=dry)).start()


def test_who_was_told_is_ended_and_it_is_all_on_record(folder: Path, people: list[Person]) -> None:
    """The user is notified first; then each signal is an event and a log line."""
    bob, alice = people
    terminal, quiet = Terminal(bob), Terminal(alice)
    daemon = serve(folder, "false")
    try:
        innocent = alice.spawn("sleep", "600")
        daemon.place(gpu(0, use(terminal.leader.pid, 900)), gpu(1))
        until(lambda: terminal.leader.poll() is not None, 20)
        path = folder / "violations.log"
        log = until(lambda: path.exists() and (text := path.read_text()).count('"signal"') and text, 20)
        assert innocent.poll() is None
        assert quiet.leader.poll() is None
        assert f'"pid": {terminal.leader.pid}' in log
        events = daemon.run("events", "--type", "process", "--json").stdout
        assert events.count("canhazgpu.process.signalled") >= 1
    finally:
        assert daemon.stop() == 0
        terminal.close()
        quiet.close()


def test_dry_run_is_the_default_and_touches_nobody(folder: Path, people: list[Person]) -> None:
    """By default it is a dry run: it is recorded, and the process lives."""
    terminal = Terminal(people[0])
    daemon = serve(folder, "true")
    try:
        daemon.place(gpu(0, use(terminal.leader.pid, 900)), gpu(1))
        log = folder / "violations.log"
        until(lambda: log.exists() and '"outcome": "dry-run"' in log.read_text(), 20)
        assert terminal.leader.poll() is None
    finally:
        assert daemon.stop() == 0
        terminal.close()


def test_who_was_not_reached_is_not_ended(folder: Path, people: list[Person]) -> None:
    """If no notice reached the user, no process is ended, while that of another user is."""
    process, terminal = people[0].spawn("sleep", "600"), Terminal(people[1])
    daemon = serve(folder, "false")
    try:
        daemon.place(gpu(0, use(process.pid, 900)), gpu(1))
        until(lambda: "nobody" in daemon.run("deliveries").stdout, 20)
        daemon.place(gpu(0, use(process.pid, 900)), gpu(1, use(terminal.leader.pid, 900)))
        until(lambda: terminal.leader.poll() is not None, 20)
        path = folder / "violations.log"
        until(lambda: path.exists() and '"signal"' in path.read_text(), 20)
        signals = [line for line in path.read_text().splitlines() if '"signal"' in line]
        assert not [line for line in signals if f'"pid": {process.pid}' in line]
        assert process.poll() is None
    finally:
        assert daemon.stop() == 0
        terminal.close()
