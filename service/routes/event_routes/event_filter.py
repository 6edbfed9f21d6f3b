"""Which events a reader asked for: by type, period, user and GPU."""

from collections.abc import Mapping, Sequence

import msgspec

from canhazgpu.events.envelope import Event, matches
from canhazgpu.events.spelling.gpu_numbers import is_part_of
from canhazgpu.service.violations.filters import filters

NAMES = ("since", "until", "user", "gpu")
MOST = 100_000
MOST_DIGITS = 6


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects events that match everything that is set. Nothing after `until_ms` is read.

    A user's are those that name them as the user, the holder or the recipient, and a GPU's those that name it
    or one of its MIG instances. `newest`: only so many of the past ones.
    """

    types: Sequence[str] = ()
    until_ms: int | None = None
    user: str | None = None
    gpu: int | None = None
    newest: int | None = None

    def fits(self, event: Event) -> bool:
        """Return whether an event matches, without considering its time."""
        return (
            matches(event.type, self.types)
            and (self.user is None or self._is_users(event))
            and (self.gpu is None or self._is_about(self.gpu, event))
        )

    def _is_users(self, event: Event) -> bool:
        data = event.data
        named = [data.get("user"), data.get("person"), data.get("holder"), *_listed(data.get("users"))]
        return self.user in named

    def _is_about(self, gpu: int, event: Event) -> bool:
        data = event.data
        within = [one.get("gpu") for one in _listed(data.get("violations")) if isinstance(one, dict)]
        named = [data.get("gpu"), data.get("index"), *_listed(data.get("gpus")), *within]
        return any(is_part_of(one, gpu) for one in named)


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def event_filter(
    query: Mapping[str, str], types: Sequence[str], now_ms: int
) -> tuple[EventFilter, str | None]:
    """Parse `since`, `until`, `user`, `gpu` and `n`; return also the stream id to begin after.

    It is None if none of them is set. If any other is, `since` is 7 days ago. Raises ValueError with a
    readable message.
    """
    words = {name: query[name] for name in NAMES if name in query}
    newest = _number(query["n"]) if "n" in query else None
    if not words and newest is None:
        return EventFilter(types=types), None
    found = filters(words, now_ms)
    wanted = EventFilter(types=types, until_ms=found.until_ms, user=found.user, gpu=found.gpu, newest=newest)
    return wanted, str(max(0, found.since_ms - 1))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and 1 <= int(text) <= MOST):
        raise ValueError(f"n: expected a number from 1 to {MOST}")
    return int(text)
