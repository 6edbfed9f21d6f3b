"""When a user hears what about their violations: a pure machine over one group's state.

A group is everything one user does without the right to it. Its episode begins with the first
violation and ends when none is open; within it there is one opening notice, one more for each
batch of GPUs that joins, a reminder at every repeat interval, and one resolved notice if anything
was told at all. Times are milliseconds of Redis' clock.
"""

from collections.abc import Iterable, Sequence

import msgspec

from canhazgpu.events.violations import CLOSED, OPENED, UPDATED, Violation

Fact = tuple[str, Violation]  # The event's type and its data.


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one user's episode."""

    episode: str  # The id of its first violation.
    open: dict[str, Violation] = {}
    ended: dict[str, Violation] = {}  # Told of, and closed since.
    told: tuple[str, ...] = ()  # Ids of the violations some notice spoke of.
    notify_ms: int | None = None
    remind_ms: int | None = None

    @property
    def due_ms(self) -> int | None:
        """When the group has to be looked at again, if no fact comes before."""
        return min((ms for ms in (self.notify_ms, self.remind_ms) if ms is not None), default=None)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that does not have its id yet."""

    kind: str
    episode: str
    user: str
    uid: int | None
    person: str | None
    violations: tuple[Violation, ...]


class Timing(msgspec.Struct, frozen=True):
    """How long to wait, in milliseconds."""

    group_wait: int
    repeat_interval: int


def advance(
    group: Group | None, facts: Sequence[Fact], now_ms: int, timing: Timing
) -> tuple[Group | None, list[Draft]]:
    """Return the group after `facts` and after what was due at `now_ms`, and the notices to send.

    None stands for no episode. Facts that were applied before change nothing.
    """
    drafts: list[Draft] = []
    for kind, violation in facts:
        group = _apply(group, kind, violation, now_ms, timing)
        if group and not group.open:
            drafts += _resolved(group)
            group = None
    if group:
        group, due = _tell(group, now_ms, timing)
        drafts += due
    return group, drafts


def _apply(group: Group | None, kind: str, violation: Violation, now_ms: int, timing: Timing) -> Group | None:
    name = violation.violation
    if kind == CLOSED:
        return _close(group, violation) if group else None
    if kind == UPDATED and (group is None or name not in group.open):
        return group  # Its end is already known: facts of one violation come in order.
    group = group or Group(episode=name)
    group = msgspec.structs.replace(group, open={**group.open, name: violation})
    if kind == OPENED and name not in group.told and group.notify_ms is None:
        return msgspec.structs.replace(group, notify_ms=now_ms + timing.group_wait)
    return group


def _close(group: Group, violation: Violation) -> Group:
    name = violation.violation
    left = {other: one for other, one in group.open.items() if other != name}
    ended = {**group.ended, name: violation} if name in group.told else group.ended
    untold = any(other not in group.told for other in left)
    return msgspec.structs.replace(
        group, open=left, ended=ended, notify_ms=group.notify_ms if untold else None
    )


def _tell(group: Group, now_ms: int, timing: Timing) -> tuple[Group, list[Draft]]:
    if group.notify_ms is not None and group.notify_ms <= now_ms:
        kind = "changed" if group.told else "opened"
    elif group.remind_ms is not None and group.remind_ms <= now_ms:
        kind = "reminder"
    else:
        return group, []
    after = msgspec.structs.replace(
        group,
        told=tuple(dict.fromkeys((*group.told, *group.open))),
        notify_ms=None,
        remind_ms=now_ms + timing.repeat_interval,
    )
    return after, [_draft(group, kind, group.open.values())]


def _resolved(group: Group) -> list[Draft]:
    return [_draft(group, "resolved", group.ended.values())] if group.ended else []


def _draft(group: Group, kind: str, violations: Iterable[Violation]) -> Draft:
    ordered = tuple(sorted(violations, key=lambda one: (one.gpu, one.since)))
    proven = next((one for one in ordered if one.person), ordered[0])
    return Draft(
        kind=kind,
        episode=group.episode,
        user=proven.user,
        uid=proven.uid,
        person=proven.person,
        violations=ordered,
    )
