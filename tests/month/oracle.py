"""What should have happened in the simulated month, worked out from the facts alone, step by step.

It knows the promises of the settings, not how they are kept: an episode is a span of a user's violations
with gaps shorter than resolve_hold; who was where decides how its user could be reached.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from canhazgpu.events.envelope import Event
from canhazgpu.events.timestamps import ms_of
from canhazgpu.events.violations import CLOSED, OPENED, Violation

WAIT, HOLD = 5_000, 120_000


class Span(msgspec.Struct, kw_only=True):
    """One user's episode: when a violation was open, and the span of each violation."""

    user: str
    begin: int
    end: int | None
    parts: list[tuple[int, int | None, Violation]]

    def open_at(self, moment: int) -> bool:
        """Tell whether a violation was open at a moment; its end is not included."""
        return any(begin <= moment and (end is None or moment < end) for begin, end, _ in self.parts)

    @property
    def first_told(self) -> int | None:
        """Return when the first notice is due: after the wait, or at the next moment a violation is open."""
        due = self.begin + WAIT
        if self.open_at(due):
            return due
        return min((begin for begin, _, _ in self.parts if begin > due), default=None)

    @property
    def over(self) -> int | None:
        """Return when the resolved notice is due."""
        if self.end is None:
            return None
        last = max(self.parts, key=lambda part: part[1] or 0)[2]
        return self.end if last.reason == "reserved" else self.end + HOLD


def spans(events: Sequence[Event]) -> list[Span]:
    """Return the episodes of these facts in the order in which they began."""
    begun: dict[str, int] = {}
    rows: dict[str, list[tuple[int, int | None, Violation]]] = defaultdict(list)
    for event in events:
        one = msgspec.convert(event.data, Violation)
        if event.type == OPENED:
            begun[one.violation] = ms_of(event.time)
            rows[one.user].append((begun[one.violation], None, one))
        elif event.type == CLOSED:
            own = rows[one.user]
            position = next(i for i, part in enumerate(own) if part[2].violation == one.violation)
            own[position] = (own[position][0], ms_of(event.time), one)
    found: list[Span] = []
    for user, parts in rows.items():
        current: Span | None = None
        for part in sorted(parts, key=lambda part: part[0]):
            if current is None or (current.over is not None and part[0] >= current.over):
                current = Span(user=user, begin=part[0], end=part[1], parts=[part])
                found.append(current)
                continue
            current.parts.append(part)
            ends = [end for _, end, _ in current.parts]
            current.end = None if None in ends else max(end for end in ends if end is not None)
    return sorted(found, key=lambda span: span.begin)
