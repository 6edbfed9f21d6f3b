"""Rounds of the real lab: random things happen for a while, then all that was said is judged."""

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.truth.bench import Found
from bench.truth.promise import Promise
from bench.truth.real.agents import Kinds
from bench.truth.real.history import Span, now_ms, since
from bench.truth.real.host import CONFIRM, IDLE_AFTER, IDLE_RELEASE, INTERVAL, Host, has_compiler
from bench.truth.real.judge import Answered, Failure, Heard, Judge, adopted, story
from bench.truth.real.lab import CARDS
from bench.truth.real.people import Person, people
from bench.truth.real.random_acts import RandomActs

LONGEST = 60.0  # Seconds of a round.
SLACK_MS = 500  # For a scan, beside what the machine itself was late.
TICK = 0.01
TURNS = 3  # A scan waits for the driver's helper, for Redis and for the disk in turn: each may be late.


@dataclass
class Lateness:
    """How late the machine wakes who sleeps and writes to its disk, at worst: as late for the daemon."""

    folder: Path
    worst_ms: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Measure until `end`."""
        threading.Thread(target=self._measure, daemon=True).start()

    def _measure(self) -> None:
        with (self.folder / "lateness").open("wb", buffering=0) as file:
            while not self._over.is_set():
                asked = time.monotonic()
                time.sleep(TICK)
                file.write(b"x")
                os.fsync(file)  # As Redis does before it answers.
                self.worst_ms = max(self.worst_ms, round((time.monotonic() - asked - TICK) * 1000))

    def end(self) -> None:
        """Measure no more."""
        self._over.set()


def judged(
    host: Host, one: RandomActs, end_ms: int, lateness_ms: int
) -> tuple[list[tuple[Failure, str]], str]:
    """Return what was wrong in a round, each with its story; and what happened in it, in numbers."""
    promise = Promise(
        round(INTERVAL * 1000),
        round(CONFIRM * 1000),
        round((IDLE_AFTER + IDLE_RELEASE) * 1000),
        SLACK_MS + TURNS * lateness_ms,
    )
    heard = [Heard(*event) for event in host.events()]
    answered = [Answered(call.asked, call.request, call.gpus) for call in one.calls.made if call.asked]
    lost = [((call.began, end_ms), call.request) for call in one.calls.made if call.asked is None]
    adopted(heard, lost, {one.request.id for one in answered})
    judge = Judge(one.lab.history, promise)
    failures = judge.judge(heard, one.shown, answered, [request for _, request in lost], end_ms)
    kinds = Counter(one.kind.removeprefix("canhazgpu.") for one in heard)
    reasons = Counter(one.data["reason"] for one in heard if one.kind == "canhazgpu.reservation.released")
    did = [
        f"{kinds['violation.opened']} violations",
        f"{kinds['reservation.created']} reservations ({_listed(reasons)})",
        f"{one.lab.reused} pids reused",
        f"the machine was up to {lateness_ms} ms late",
    ]
    return [(failure, story(failure, one.lab.history, heard)) for failure in failures], ", ".join(did)


def run(seed: int, seconds: float) -> tuple[Found, list[str], list[str]]:
    """Run rounds for so long; return what was found, the stories of what was wrong, and remarks."""
    found, stories, remarks = Found(), [], []
    with people() as who, tempfile.TemporaryDirectory(prefix="truth-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        kinds = Kinds(Path(name), who)
        remarks += [f"left out: {kind}: {why}" for kind, why in kinds.left_out.items()]
        if not has_compiler():
            remarks.append("left out: the library in the place of NVML's: there is no compiler")
        rounds = max(1, round(seconds / LONGEST))
        for number in range(rounds):
            provider = "nvml" if has_compiler() and (seed + number) % 2 else "simulated"
            folder = Path(name) / f"round-{number}"
            folder.mkdir(mode=0o755)
            failed, steps, did = _round(seed + number, folder, provider, who, kinds, seconds / rounds)
            found.steps += steps
            found.columns.update(failure.column for failure, _ in failed)
            stories += [f"seed {seed + number}, {provider}: {text}" for _, text in failed]
            remarks.append(f"seed {seed + number}, {provider}: {did}")
        kinds.clean()
    return found, stories, remarks


def _round(  # noqa: PLR0913, PLR0917 - each says one thing about it
    seed: int, folder: Path, provider: str, who: Sequence[Person], kinds: Kinds, seconds: float
) -> tuple[list[tuple[Failure, str]], int, str]:
    host = Host(folder, provider, [f"GPU-c{number}-0" for number in range(CARDS)])
    one = RandomActs(seed, host, who, kinds)
    lateness = Lateness(folder)
    host.start()
    try:
        host.wait()
        one.lab.history.blind.append(Span((0, 0), since(now_ms())))
        lateness.watch()
        one.run(seconds)
        end_ms = one.settle(INTERVAL + CONFIRM + 2 * SLACK_MS / 1000)
        lateness.end()
        failed, did = judged(host, one, end_ms, lateness.worst_ms)
        return failed, one.steps, did
    finally:
        one.close()
        host.signal(signal.SIGCONT)
        host.signal(signal.SIGTERM)


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{counted[name]} {name}" for name in sorted(counted))
