"""The state of one user's episode, and how events change it. `escalation.py` decides about notices.

An episode covers all violations of one user. It starts with the first violation and ends when there was none
for `resolve_hold`, so a job that is restarted belongs to the same episode. Times are milliseconds of Redis'
clock.
"""

from typing import TypeAlias

import msgspec

from canhazgpu.events.notices import OFFENDER, REACHED, Delivery, is_personal
from canhazgpu.events.violations import CLOSED, UPDATED, Violation
from canhazgpu.workers.dispatch.policy import Policy

Fact: TypeAlias = tuple[str, Violation] | Delivery  # A violation's with its event's type.
RESOLVED_REASONS = frozenset({"reserved", "exempted"})  # Reasons after which there is no need to wait.

STORED_NAMES = {  # In Redis, fields keep the names that they had when the state was first stored.
    "dry_run_sent": "rehearsed",
    "holder_escalations": "callings",
    "notified": "told",
    "resolve_holder_ms": "parting",
    "used_channels": "heard",
    "violations_by_holder": "guests",
}


class DeferredNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that waits for the end of quiet hours, and whom it reports as not notified."""

    due_ms: int
    audience: str
    kind: str
    channels: tuple[str, ...]
    unreached: bool = False
    unreached_holder: str | None = None


class HolderEscalation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The progress of notifying one holder: steps before `step` were tried; those in `early` were early."""

    step: int = 0
    early: tuple[int, ...] = ()
    awaiting: dict[str, tuple[str, ...]] = {}  # Serial -> the channels that are still trying to reach them.
    reached: bool = False
    given_up: bool = False  # All steps failed, and administrators were notified.


class Episode(msgspec.Struct, kw_only=True, omit_defaults=True, rename=STORED_NAMES):
    """One user's episode. `first_ms`, the time when the first notice was due, is the base time of steps."""

    episode: str  # The id of its first violation.
    open: dict[str, Violation] = {}
    ended: dict[str, Violation] = {}  # Notified, and closed since.
    notified: dict[str, None] = {}  # Places ("GPU/kind/holder") covered by a notice.
    used_channels: dict[str, tuple[str, ...]] = {}  # Audience -> the channels that were used.
    notify_ms: int | None = None
    first_ms: int | None = None
    last_ms: int | None = None
    step: int = 0  # The next step.
    forward: bool = False  # The next step is taken immediately, because nobody was reached.
    remind_ms: int | None = None
    reminders: int = 0
    hold_ms: int | None = None  # The time at which it ends, unless another violation opens.
    wake_ms: int | None = None  # The time at which its first silence ends.
    later: tuple[DeferredNotice, ...] = ()
    serial: int = 0
    awaiting: dict[
        str, tuple[str, ...]
    ] = {}  # Serial -> the channels that are still trying to reach the offender.
    reached: dict[str, None] = {}  # Serials of the notices that reached them.
    unreached: bool = False  # Administrators were notified that nobody could be reached.
    violations_by_holder: dict[str, dict[str, Violation]] = {}  # Holder -> the violations on their GPUs.
    holder_escalations: dict[str, HolderEscalation] = {}  # Holder -> whether they could be notified.
    resolve_holder_ms: dict[str, int] = {}  # Holder -> the time at which to send the resolved notice.
    dry_run_sent: bool = False  # The dry-run notice was sent.
    terminated: bool = False
    terminate_ms: int | None = None  # The next attempt, if too many episodes were ended recently.
    due_ms: int | None = None  # The time of the next check, if there is no event before.

    @property
    def stuck(self) -> bool:
        """Whether no notice has reached the offender, and none is being delivered."""
        waits = any(later.audience == OFFENDER for later in self.later)
        return not (self.reached or self.awaiting or waits)


def copy(episode: Episode) -> Episode:
    """Return a copy that can be changed."""
    return msgspec.convert(msgspec.to_builtins(episode), Episode)


def place(violation: Violation) -> str:
    """Return the place of a violation (GPU, kind, holder), which is the same after a job is restarted."""
    return f"{violation.gpu}/{violation.kind}/{violation.holder or ''}"


def apply(episode: Episode | None, fact: Fact, now_ms: int, policy: Policy) -> Episode | None:
    """Return the episode after one event. Applying an event again changes nothing."""
    if isinstance(fact, Delivery):
        if episode:
            _apply_attempt(episode, fact)
        return episode
    kind, violation = fact
    name = violation.violation
    if kind == CLOSED:
        if episode and name in episode.open:
            _close(episode, violation, now_ms, policy)
        return episode
    if kind == UPDATED and (episode is None or name not in episode.open):
        return episode  # It has already ended: events of one violation are in order.
    episode = episode or Episode(episode=name)
    before = episode.open.get(name)
    episode.open[name] = violation
    if before and before.gpu != violation.gpu:
        _renumber(episode, before, violation)
    if violation.holder:
        episode.violations_by_holder.setdefault(violation.holder, {})[name] = violation
    episode.hold_ms = None
    if place(violation) not in episode.notified and episode.notify_ms is None:
        episode.notify_ms = now_ms + policy.wait_ms()
    return episode


def _renumber(episode: Episode, before: Violation, now: Violation) -> None:
    """Move the notified places of a card to its new index."""
    if place(before) in episode.notified:
        episode.notified[place(now)] = None
        if all(place(one) != place(before) for one in episode.open.values()):
            del episode.notified[place(before)]


def _close(episode: Episode, violation: Violation, now_ms: int, policy: Policy) -> None:
    before = episode.open[violation.violation]
    if before.gpu != violation.gpu:
        episode.open[violation.violation] = violation
        _renumber(episode, before, violation)
    del episode.open[violation.violation]
    if violation.holder and violation.holder in episode.violations_by_holder:
        episode.violations_by_holder[violation.holder][violation.violation] = violation
    if place(violation) in episode.notified:
        episode.ended[violation.violation] = violation
    if not episode.open:
        over = violation.reason in RESOLVED_REASONS
        episode.hold_ms = now_ms if over else now_ms + policy.hold_ms()


def _apply_attempt(episode: Episode, attempt: Delivery) -> None:
    """Apply a delivery attempt. If a notice reached nobody, the next step is brought forward."""
    serial = str(attempt.serial)
    reached = attempt.outcome in REACHED and is_personal(attempt.channel)
    if attempt.episode != episode.episode:
        return
    for escalation in episode.holder_escalations.values():
        if serial in escalation.awaiting:
            escalation.reached |= reached
            _remove_finished_channel(escalation.awaiting, serial, attempt)
    if serial not in (episode.awaiting.keys() | episode.reached.keys()):
        return
    if reached:
        episode.reached[serial] = None
    _remove_finished_channel(episode.awaiting, serial, attempt)
    episode.forward = episode.stuck


def _remove_finished_channel(awaiting: dict[str, tuple[str, ...]], serial: str, attempt: Delivery) -> None:
    """Remove a channel that has finished."""
    if attempt.final and serial in awaiting:
        awaiting[serial] = tuple(one for one in awaiting[serial] if one != attempt.channel)
        if not awaiting[serial]:
            del awaiting[serial]
