"""The channel `terminate`, the last resort: it ends processes with SIGINT, then SIGTERM, then SIGKILL.

It needs its own step in the settings and is off by default. Before each signal, every process is checked
again: it must be the same process (pid and start time, held by a pidfd), its user must be proven, no system
user and not exempt, and a recent scan must still show it on the GPU. In case of doubt it is left alone.
"""

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePosixPath

import anyio

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import PROVEN, ProcessUse
from canhazgpu.events.linux.processes import has_ended, start_time_of
from canhazgpu.events.notices import Notice
from canhazgpu.events.violations import Signalled, Violation
from canhazgpu.notifiers.outcome import Outcome

FIRST_USER = 1000  # Lower uids are system users.
Open = Callable[[], Awaitable[dict[str, Violation] | None]]
Record = Callable[[list[Signalled]], Awaitable[None]]


class Terminate:
    """The channel `terminate`. It takes as long as the grace periods, without delaying other channels."""

    name = "terminate"

    def __init__(self, settings: Settings, open_now: Open, record: Record) -> None:
        """`open_now` returns the open violations without a silence by id, or None if they are not known.

        `record` is called after each signal.
        """
        self._rules = settings.notices.terminate
        self._exempt_users = frozenset(settings.violations.exempt_users)
        self._exempt_programs = frozenset(settings.violations.exempt_processes)
        self._open_now, self._record = open_now, record

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the owner of the processes."""
        return [notice.person] if notice.kind == "terminate" and notice.person else []

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> list[Outcome]:
        """End the processes of the violations, as far as that is allowed."""
        del first
        facts: list[Signalled] = []
        stages = [(signal.SIGINT, self._rules.interrupt_grace), (signal.SIGTERM, self._rules.terminate_grace)]
        with contextlib.ExitStack() as closing:
            held: dict[int, int] = {}  # pid -> a pidfd, from the first signal on.
            for number, grace in [*stages, (signal.SIGKILL, 1.0)]:
                sent = await self._stage(notice, number, held, closing)
                facts += sent
                await self._record(sent)
                if notice.dry_run or not any(fact.outcome == "sent" for fact in sent):
                    break
                await _until_ended([held[fact.pid] for fact in sent if fact.pid in held], grace)
        verdict = "dry-run" if notice.dry_run else "delivered"
        done = [fact for fact in facts if fact.outcome in ("sent", "dry-run")]
        detail = f"{len({fact.pid for fact in done})} processes" if done else _why(facts)
        return [Outcome(one, verdict if done else "skipped", detail) for one in recipients]

    async def _stage(
        self, notice: Notice, number: signal.Signals, held: dict[int, int], closing: contextlib.ExitStack
    ) -> list[Signalled]:
        """Send one signal to all processes that are still running."""
        current = await self._open_now()
        facts = []
        for violation, process in _targets(notice, current):
            if process.pid in held and has_ended(held[process.pid]):
                continue
            outcome = (
                self._obstacle(notice, violation, process) if current is not None else "not seen recently"
            )
            if not outcome:
                if process.pid not in held:
                    _hold(process, held, closing)
                outcome = _signal(process, held.get(process.pid), number, dry_run=notice.dry_run)
            facts.append(_fact(notice, violation, process, number, outcome))
        return facts

    def _obstacle(self, notice: Notice, violation: Violation, process: ProcessUse) -> str:
        """Return why this process must be left alone, or an empty string."""
        if violation.person is None or violation.person != notice.person:
            return "not proven to be theirs"
        if process.person != violation.person or process.evidence not in PROVEN or process.uid is None:
            return "not proven to be theirs"
        if process.uid < FIRST_USER or process.pid <= 1:
            return "of the system"
        program = process.program or ""  # Not its name, which the process can choose.
        names = {program, PurePosixPath(program).name}
        if violation.user in self._exempt_users or names & self._exempt_programs:
            return "exempt"
        return ""


def _targets(notice: Notice, current: dict[str, Violation] | None) -> Iterator[tuple[Violation, ProcessUse]]:
    """Yield each process of the violations once, as in the last scan."""
    seen = set()
    for told in notice.violations:
        now = told if current is None else current.get(told.violation)
        for process in now.processes if now else ():
            if process.pid not in seen and now:
                seen.add(process.pid)
                yield now, process


def _hold(process: ProcessUse, held: dict[int, int], closing: contextlib.ExitStack) -> None:
    with contextlib.suppress(OSError):
        held[process.pid] = os.pidfd_open(process.pid)
        closing.callback(os.close, held[process.pid])


def _signal(process: ProcessUse, descriptor: int | None, number: signal.Signals, *, dry_run: bool) -> str:
    """Send a signal if this is still the same process; return the outcome."""
    if descriptor is None or has_ended(descriptor) or start_time_of(process.pid) != process.start:
        return "gone"
    if _real_uid(process.pid) != process.uid:
        return "now belongs to another user"
    if dry_run:
        return "dry-run"
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return "gone"
    except OSError as error:
        return f"not allowed: {error.strerror}"
    return "sent"


def _real_uid(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


async def _until_ended(descriptors: list[int], grace: float) -> None:
    """Wait until all these processes have ended, at most `grace` seconds."""
    with anyio.move_on_after(grace):
        async with anyio.create_task_group() as tasks:
            for descriptor in descriptors:
                tasks.start_soon(_ended, descriptor)


async def _ended(descriptor: int) -> None:
    await anyio.wait_readable(descriptor)


def _fact(
    notice: Notice, violation: Violation, process: ProcessUse, number: signal.Signals, outcome: str
) -> Signalled:
    return Signalled(
        notice=notice.notice,
        violation=violation.violation,
        gpu=violation.gpu,
        user=violation.user,
        uid=process.uid,
        pid=process.pid,
        start=process.start,
        name=process.name,
        signal=number.name.removeprefix("SIG"),
        outcome=outcome,
    )


def _why(facts: list[Signalled]) -> str:
    return ", ".join(dict.fromkeys(fact.outcome for fact in facts)) or "the processes are gone"
