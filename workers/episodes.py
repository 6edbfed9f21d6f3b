"""What is remembered of one user's episode, and what facts make of it. Who hears of it: `telling.py`.

An episode is everything one user does without the right to it. It begins with their first violation and
ends when none has been there for `resolve_hold`, so that a job that is started again is the same one.
Times are milliseconds of Redis' clock.
"""

from typing import TypeAlias

import msgspec

from canhazgpu.events.notices import OFFENDER, REACHED, Delivery, is_personal
from canhazgpu.events.violations import CLOSED, UPDATED, Violation
from canhazgpu.workers.policy import Policy

Fact: TypeAlias = tuple[str, Violation] | Delivery  # A violation's with its event's type.
PUT_RIGHT = frozenset({"reserved", "exempted"})  # Reasons after which nothing has to be waited for.


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that waits for the end of quiet hours, and what it says of those who could not be told."""

    due_ms: int
    audience: str
    kind: str
    channels: tuple[str, ...]
    unreached: bool = False
    unreached_holder: str | None = None


class Calling(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far it is with telling one holder: steps before `step` were tried to reach them, `early` did."""

    step: int = 0
    early: tuple[int, ...] = ()
    awaiting: dict[str, tuple[str, ...]] = {}  # Serial: the channels that still try to reach them.
    reached: bool = False
    given_up: bool = False  # No step was left; administrators heard of it.


class Episode(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One user's episode. `first_ms`, when the first notice was due, is what steps count from."""

    episode: str  # The id of its first violation.
    open: dict[str, Violation] = {}
    ended: dict[str, Violation] = {}  # Told of, and closed since.
    told: dict[str, None] = {}  # Places ("GPU/kind/holder") that were told of, if they could be.
    heard: dict[str, tuple[str, ...]] = {}  # Audience: the channels it was told by.
    notify_ms: int | None = None
    first_ms: int | None = None
    last_ms: int | None = None
    step: int = 0  # The next one to take.
    forward: bool = False  # It is taken at once: nobody was reached so far.
    remind_ms: int | None = None
    reminders: int = 0
    hold_ms: int | None = None  # When it is over, unless something is open again.
    wake_ms: int | None = None  # When the first silence over it ends.
    later: tuple[Later, ...] = ()
    serial: int = 0
    awaiting: dict[str, tuple[str, ...]] = {}  # Serial: the channels that still try to reach the offender.
    reached: dict[str, None] = {}  # Serials of the notices that reached them.
    unreached: bool = False  # Administrators were told that nobody could be reached.
    guests: dict[str, dict[str, Violation]] = {}  # Holder: what is, or was, on their GPUs.
    callings: dict[str, Calling] = {}  # Holder: whether they could be told.
    parting: dict[str, int] = {}  # Holder: when they hear that it is over.
    rehearsed: bool = False  # It was said what would be ended.
    terminated: bool = False
    terminate_ms: int | None = None  # When it may be tried again: too many were ended lately.
    due_ms: int | None = None  # When it has to be looked at, if no fact comes before.

    @property
    def stuck(self) -> bool:
        """Whether nothing has reached the offender, and nothing is under way to them."""
        waits = any(later.audience == OFFENDER for later in self.later)
        return not (self.reached or self.awaiting or waits)


def copy(episode: Episode) -> Episode:
    """Return one that can be changed."""
    return msgspec.convert(msgspec.to_builtins(episode), Episode)


def place(violation: Violation) -> str:
    """Return what counts as the same when a job is started again: the GPU, the kind, and whose GPU it is."""
    return f"{violation.gpu}/{violation.kind}/{violation.holder or ''}"


def apply(episode: Episode | None, fact: Fact, now_ms: int, policy: Policy) -> Episode | None:
    """Return the episode after one fact; what was applied before changes nothing."""
    if isinstance(fact, Delivery):
        if episode:
            _hear_back(episode, fact)
        return episode
    kind, violation = fact
    name = violation.violation
    if kind == CLOSED:
        if episode and name in episode.open:
            _close(episode, violation, now_ms, policy)
        return episode
    if kind == UPDATED and (episode is None or name not in episode.open):
        return episode  # Its end is already known: facts of one violation come in order.
    episode = episode or Episode(episode=name)
    before = episode.open.get(name)
    episode.open[name] = violation
    if before and before.gpu != violation.gpu:
        _renumber(episode, before, violation)
    if violation.holder:
        episode.guests.setdefault(violation.holder, {})[name] = violation
    episode.hold_ms = None
    if place(violation) not in episode.told and episode.notify_ms is None:
        episode.notify_ms = now_ms + policy.wait_ms()
    return episode


def _renumber(episode: Episode, before: Violation, now: Violation) -> None:
    """Take over that it was told of a card which has another index now; of its old index nothing was."""
    if place(before) in episode.told:
        episode.told[place(now)] = None
        if all(place(one) != place(before) for one in episode.open.values()):
            del episode.told[place(before)]


def _close(episode: Episode, violation: Violation, now_ms: int, policy: Policy) -> None:
    before = episode.open[violation.violation]
    if before.gpu != violation.gpu:
        episode.open[violation.violation] = violation
        _renumber(episode, before, violation)
    del episode.open[violation.violation]
    if violation.holder and violation.holder in episode.guests:
        episode.guests[violation.holder][violation.violation] = violation
    if place(violation) in episode.told:
        episode.ended[violation.violation] = violation
    if not episode.open:
        over = violation.reason in PUT_RIGHT
        episode.hold_ms = now_ms if over else now_ms + policy.hold_ms()


def _hear_back(episode: Episode, attempt: Delivery) -> None:
    """Take in what became of a notice; one that reached nobody brings the next step forward."""
    serial = str(attempt.serial)
    reached = attempt.outcome in REACHED and is_personal(attempt.channel)
    if attempt.episode != episode.episode:
        return
    for calling in episode.callings.values():
        if serial in calling.awaiting:
            calling.reached |= reached
            _strike(calling.awaiting, serial, attempt)
    if serial not in (episode.awaiting.keys() | episode.reached.keys()):
        return
    if reached:
        episode.reached[serial] = None
    _strike(episode.awaiting, serial, attempt)
    episode.forward = episode.stuck


def _strike(awaiting: dict[str, tuple[str, ...]], serial: str, attempt: Delivery) -> None:
    """Take off a channel that tries no more."""
    if attempt.final and serial in awaiting:
        awaiting[serial] = tuple(one for one in awaiting[serial] if one != attempt.channel)
        if not awaiting[serial]:
            del awaiting[serial]
