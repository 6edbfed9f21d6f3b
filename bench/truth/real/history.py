"""What truly was when: a change of the real lab is known to the interval between its call and its answer."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

from bench.truth.lab import Process, Sight

Interval = tuple[int, int]  # Milliseconds: when a change was begun, and when it was done.


def now_ms() -> int:
    """Return how late it is, as Redis counts."""
    return int(time.time() * 1000)


def since(began_ms: int) -> Interval:
    """Return the interval from a call to now, its answer."""
    return began_ms, ceil(time.time() * 1000)


@dataclass
class Span:
    """For how long something was so."""

    began: Interval
    ended: Interval | None = None

    def throughout(self, first: int, last: int) -> bool:
        """Tell whether it was so beyond doubt all the time."""
        return self.began[1] <= first and (self.ended is None or self.ended[0] >= last)

    def at_all(self, first: int, last: int) -> bool:
        """Tell whether it may have been so at some moment."""
        return self.began[0] <= last and (self.ended is None or self.ended[1] >= first)


@dataclass
class Presence(Span):
    """A process on a card; on none (`""`) while it lives."""

    process: Process = field(kw_only=True)
    card: str = field(kw_only=True)


@dataclass
class CardState(Span):
    """What the driver says of a card."""

    card: str = field(kw_only=True)
    state: str = field(kw_only=True)


@dataclass
class History:
    """All that happened to cards and processes. `uuids` are the cards' in the order of their indices."""

    uuids: dict[str, str]
    presences: list[Presence] = field(default_factory=list)
    states: list[CardState] = field(default_factory=list)
    blind: list[Span] = field(default_factory=list)  # While the daemon could not see, or was not there.
    notes: list[tuple[int, str, str]] = field(default_factory=list)

    def note(self, text: str, card: str = "", at_ms: int | None = None) -> None:
        """Remember what was done, to all cards or to one, for people."""
        self.notes.append((now_ms() if at_ms is None else at_ms, card, text))

    def throughout(self, first: int, last: int) -> Sight:
        """Return what was so all the time."""
        states = [one for one in self.states if one.at_all(first, last)]
        states.sort(key=lambda one: one.state == "ok")
        worst = {one.card: one.state for one in reversed(states)}
        return self._sight(last, (one for one in self.presences if one.throughout(first, last)), worst)

    def at_all(self, first: int, last: int) -> Sight:
        """Return what was so at some moment."""
        states = sorted(
            (one for one in self.states if one.at_all(first, last)), key=lambda one: one.state == "ok"
        )
        best = {one.card: one.state for one in states}
        return self._sight(last, (one for one in self.presences if one.at_all(first, last)), best)

    def sees(self, first: int, last: int) -> bool:
        """Tell whether the daemon could see the cards all the time."""
        return not any(span.at_all(first, last) for span in self.blind)

    def moments(self) -> list[int]:
        """Return when something was begun or done, and when it is over beyond doubt."""
        spans: list[Span] = [*self.presences, *self.states, *self.blind]
        edges = [edge for span in spans for edge in (span.began, span.ended) if edge]
        return sorted({at for first, last in edges for at in (first, last, last + 1)})

    def _sight(self, at_ms: int, presences: Iterable[Presence], states: Mapping[str, str]) -> Sight:
        on: dict[str, list[Process]] = {card: [] for card in self.uuids}
        alive: list[Process] = []
        for one in presences:
            (on[one.card] if one.card else alive).append(one.process)
        cards = {
            uuid: (index, states.get(card, "unknown"), tuple(on[card]))
            for index, (card, uuid) in enumerate(self.uuids.items())
        }
        return Sight(at_ms, cards, tuple(alive))
