"""The records of the simulated month."""

from collections import defaultdict
from typing import Any

from month.host import Host
from month.oracle import Span, spans
from month.people import DAY, MINUTE

from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.notices import Delivery, Notice


class Month:
    """The events, notices and deliveries of a month."""

    def __init__(
        self, host: Host, facts: list[Event], notices: list[Notice], attempts: list[Delivery]
    ) -> None:
        self.host, self.facts, self.notices, self.attempts = host, facts, notices, attempts
        self.spans = spans(facts)
        self.by_notice: dict[str, list[Delivery]] = defaultdict(list)
        for attempt in attempts:
            self.by_notice[attempt.notice].append(attempt)

    def of(self, span: Span) -> list[Notice]:
        """Return the notices about an episode."""
        names = {part[2].violation for part in span.parts}
        return [one for one in self.notices if one.episode in names]

    def first(self, span: Span) -> tuple[Notice | None, bool]:
        """Return the first notice to an episode's user, and whether it was seen on a terminal."""
        found = (one for one in self.of(span) if one.audience == "offender" and "wall" in one.channels)
        first = next(found, None)
        attempts = self.by_notice[first.notice] if first else []
        return first, any(one.channel == "wall" and one.outcome == "delivered" for one in attempts)


async def read(host: Host, stream: str) -> list[Event]:
    """Return all events of a stream."""
    rows: Any = await host.store.redis.xrange(stream)
    return [decode(fields) for _, fields in rows]


def silenced(month: Month, span: Span) -> bool:
    """Tell whether a silence was active at any moment of an episode."""
    end = span.end or span.begin + 400 * DAY
    return any(
        begin < end + MINUTE and span.begin - MINUTE < until
        for user, begin, until in month.host.silences
        if user == span.user
    )


def undisturbed(month: Month) -> list[Span]:
    """Return the episodes without a silence."""
    return [span for span in month.spans if not silenced(month, span)]
