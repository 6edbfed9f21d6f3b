"""The escalation of one user's episode, simulated without Redis."""

from typing import Any

from canhazgpu.config.notices import Notices, Step
from canhazgpu.events.notices import Delivery
from canhazgpu.events.silences import Silence
from canhazgpu.events.violations import CLOSED, OPENED, Violation
from canhazgpu.workers.dispatch.drafts import Draft
from canhazgpu.workers.dispatch.episodes import Episode, Fact
from canhazgpu.workers.dispatch.escalation import advance
from canhazgpu.workers.dispatch.policy import Policy

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
ALL = ("wall", "email", "log", "webhook:chat")
START = 1_767_578_400_000  # Monday 2026-01-05, 02:00 UTC.
WAIT, HOLD = 5 * SECOND, 2 * MINUTE


def violation(name: str, gpu: int = 0, **facts: Any) -> Violation:
    """A violation of bob's."""
    values: dict[str, Any] = {
        "violation": name,
        "kind": "unreserved",
        "gpu": gpu,
        "gpu_uuid": f"GPU-{gpu}",
        "gpu_name": "H100",
        "key": "uid:1001",
        "user": "bob",
        "uid": 1001,
        "person": "bob",
        "evidence": "uid",
        "since": "2026-01-01T00:00:00.000Z",
        "memory_mb": 1024,
        "peak_memory_mb": 1024,
        **facts,
    }
    return Violation(**values)


def step(after: str, channels: str, to: str) -> Step:
    """One step, its lists written with spaces."""
    return Step(after=after, channels=channels.split(), to=to.split())


def silence(until_ms: int, **facts: Any) -> Silence:
    """A silence."""
    return Silence(
        id="s", by="root", by_uid=0, since="x", until="x", until_ms=until_ms, reason="maintenance", **facts
    )


class Bob:
    """One user's episode; moments are milliseconds after START."""

    def __init__(self, *steps: Step, channels: tuple[str, ...] = ALL, **notices: Any) -> None:
        """Use these steps, else the default ones, and these settings of notices."""
        if steps:
            notices["steps"] = list(steps)
        self.policy = Policy(notices=Notices(**notices), channels=channels)
        self.episode: Episode | None = None
        self.drafts: list[Draft] = []
        self.silences: list[Silence] = []
        self.acks: dict[int, int] = {}
        self.may_terminate = True

    def at(self, moment: int, *facts: Fact) -> list[str]:
        """Apply facts at a moment; return the notices that follow: kind, audience and channels."""
        self.episode, drafts = advance(
            self.episode,
            facts,
            START + moment,
            self.policy,
            self.silences,
            acknowledged=self.acks,
            may_terminate=self.may_terminate,
        )
        if self.episode and self.episode.due_ms is not None:
            assert self.episode.due_ms > START + moment, "it would be looked at for ever"
        self.drafts += drafts
        return [spelled(draft) for draft in drafts]

    @property
    def due(self) -> int | None:
        """Return when it is due again."""
        due_ms = self.episode.due_ms if self.episode else None
        return None if due_ms is None else due_ms - START

    def opens(self, moment: int, name: str, gpu: int = 0, **facts: Any) -> list[str]:
        """Open a violation."""
        return self.at(moment, (OPENED, violation(name, gpu, **facts)))

    def closes(
        self, moment: int, name: str, gpu: int = 0, reason: str = "stopped", **facts: Any
    ) -> list[str]:
        """Close one."""
        ended = violation(name, gpu, reason=reason, closed="x", duration_s=1, **facts)
        return self.at(moment, (CLOSED, ended))

    def hears(self, moment: int, outcome: str = "delivered", channel: str = "", draft: int = -1) -> list[str]:
        """Say what became of the last notice, or of another, on one channel or on all."""
        notice = self.drafts[draft]
        rows = [
            Delivery(
                notice="n",
                kind=notice.kind,
                channel=one,
                recipient="x",
                outcome=outcome,
                attempt=1,
                time="x",
                episode=notice.episode or "",
                group=notice.group,
                serial=notice.serial,
                audience=notice.audience,
                final=outcome != "retry",
            )
            for one in ([channel] if channel else notice.channels)
        ]
        return self.at(moment, *rows)

    def runs(self, begin: int, end: int, outcome: str = "delivered") -> list[str]:
        """Let time pass; whatever is told comes to `outcome`. Return when what was told, as `MOMENT what`."""
        rows = []
        while self.due is not None and self.due <= end:
            moment = max(begin, self.due)
            told = self.at(moment)
            while told:
                rows += [f"{moment // SECOND} {one}" for one in told]
                count = len(told)
                told = [one for draft in range(-count, 0) for one in self.hears(moment, outcome, draft=draft)]
        return rows


def spelled(draft: Draft) -> str:
    """A notice as a test writes it."""
    whom = draft.audience if draft.audience in ("offender", "admins") else f"{draft.person or draft.to}"
    missed = " unreached" if draft.unreached else ""
    missed += f" unreached {draft.unreached_holder}" if draft.unreached_holder else ""
    return f"{draft.kind} {whom} {'+'.join(draft.channels)}{missed}"
