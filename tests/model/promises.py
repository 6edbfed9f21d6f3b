"""What is promised to bookings, written from the definition; times are in ms since the first step."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

SOON = 11  # When GPUs are free at the earliest that should be free now, but are not or cannot be read.
NOW = 10  # Later than the end of what is over as soon as somebody looks; all steps are at this time.


@dataclass
class Window:
    """A booking that has not begun: for `named` GPUs, or for any `count` of a vendor."""

    uid: int
    begin: int
    end: int
    count: int
    named: tuple[int, ...] | None = None
    vendor: str | None = None
    id: str = ""
    late: bool = False
    drain: str = ""  # It is maintenance, and this is the reason.
    begun: bool = False  # Its GPUs are drained.

    @property
    def at(self) -> int:
        """Return when it can begin at the earliest."""
        return max(self.begin, NOW)

    def overlaps(self, other: "Window") -> bool:
        """Tell whether both are open at some time from now on."""
        return self.begin < other.end and other.begin < self.end and min(self.end, other.end) > NOW


@dataclass
class Promises:
    """The part of the reference that knows windows. `gpus` and `held` are those of the reference."""

    gpus: dict[int, Any]
    held: dict[str, Any] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)

    def with_parts(self, index: int) -> list[Any]:
        """Return a GPU and its instances."""
        return [self.gpus[one] for one in (index, *self.gpus[index].parts)]

    def taken_until(self, gpu: Any) -> float:
        """Return until when a GPU with its instances is taken, as far as is known."""
        return max(max(self.alone_until(one), self.maintained(one)) for one in self.with_parts(gpu.index))

    def alone_until(self, gpu: Any) -> float:
        """Return until when a GPU is taken, whatever its instances are."""
        if gpu.holder:
            until: float = self.held[gpu.holder].until
            return max(until, SOON)
        if gpu.state == "ok" and gpu.users:
            return math.inf
        return 0 if gpu.state == "ok" and gpu.settled else SOON

    def out(self, gpu: Any) -> bool:
        """Tell whether a GPU, or an instance of it, needs an administrator."""
        return any(
            not one.managed or one.drained or one.state == "error" for one in self.with_parts(gpu.index)
        )

    def maintained(self, gpu: Any) -> bool:
        """Tell whether a GPU is drained for maintenance that has begun."""
        return any(
            one.begun and one.drain == gpu.drained and not {gpu.index, gpu.card}.isdisjoint(one.named or ())
            for one in self.windows
        )

    def lost(self, gpu: Any) -> bool:
        """Tell whether a GPU needs an administrator; maintenance ends without one."""
        return any(
            not one.managed or one.state == "error" or (one.drained and not self.maintained(one))
            for one in self.with_parts(gpu.index)
        )

    def usable(self) -> Iterator[Any]:
        """Yield the whole GPUs that need no administrator."""
        yield from (gpu for gpu in self.gpus.values() if gpu.whole and not self.lost(gpu))

    def possible(self, window: Window) -> bool:
        """Tell whether a window could have its GPUs if nobody used them."""
        if window.named:
            return not any(self.lost(self.gpus[index]) for index in window.named)
        return len([gpu for gpu in self.usable() if window.vendor in {None, gpu.vendor}]) >= window.count

    def counting(self, *more: Window) -> list[Window]:
        """Return the windows that keep GPUs from others."""
        return [one for one in (*self.windows, *more) if one.begin > NOW or one.drain or self.possible(one)]

    def left(self, window: Window, *more: Window) -> int:
        """Return how many GPUs are left when a window without names begins."""
        others = self.counting(*more)
        names = {index for other in others if window.overlaps(other) for index in self.kept(other)}
        cards = [
            gpu
            for gpu in self.usable()
            if window.vendor in {None, gpu.vendor}
            and self.taken_until(gpu) <= window.at
            and gpu.index not in names
        ]
        needed = sum(
            other.count
            for other in others
            if not other.named and other.at <= window.at < other.end and meets(other.vendor, {window.vendor})
        )
        return len(cards) - needed

    def room(self, vendors: set[str | None], end: float) -> float:
        """Return how many GPUs of these vendors can be taken until a time; negative: so many are missing."""
        most = math.inf
        for window in self.counting():
            if not window.named and window.at < end and meets(window.vendor, vendors):
                most = min(most, self.left(window))
        return most

    def names(self, window: Window, index: int) -> bool:
        """Tell whether a window names a GPU, its card, or an instance of it."""
        gpu = self.gpus[index]
        return not {index, gpu.card, *gpu.parts}.isdisjoint(self.kept(window))

    def kept(self, window: Window) -> list[int]:
        """Return the GPUs that a window keeps by name: of maintenance, those still drained."""
        named = window.named or ()
        return [index for index in named if not window.begun or self.maintained(self.gpus[index])]

    def named_from(self, index: int, booking: str = "") -> float:
        """Return when the first window begins that names a GPU."""
        begins = [
            one.begin
            for one in self.counting()
            if self.names(one, index) and one.id != booking and one.end > NOW
        ]
        return min(begins, default=math.inf)

    def fits(self, window: Window) -> bool:
        """Tell whether a window can be promised."""
        if not self.possible(window):
            return False
        for index in window.named or ():
            clash = any(self.names(one, index) and one.overlaps(window) for one in self.counting())
            if clash or self.taken_until(self.gpus[index]) > window.at:
                return False
        vendors = self.vendors_of(window.named) if window.named else {window.vendor}
        for one in self.counting(window):
            if one.named or not meets(one.vendor, vendors):
                continue
            concerned = one.overlaps(window) if window.named else window.at <= one.at < window.end
            if concerned and self.left(one, window) < 0:
                return False
        return True

    def vendors_of(self, indices: Iterable[int]) -> set[str | None]:
        """Return the vendors of the whole GPUs among these."""
        return {self.gpus[index].vendor for index in indices if self.gpus[index].whole}

    def promised_from(self, held: Any, since: int) -> float:
        """Return when the first window begins that lacks GPUs of a reservation that lasts beyond a time."""
        vendors = self.vendors_of(held.gpus)
        short = [one for one in self.counting() if not one.named and self.left(one) < 0 and one.at >= since]
        begins = [one.at for one in short if meets(one.vendor, set(vendors))]
        if any(
            meets(one.vendor, set(vendors)) and self.left(replace(one, begin=since)) < 0
            for one in self.counting()
            if not one.named and one.at < since < one.end
        ):
            begins.append(since)  # It gets its GPUs late.
        return min([*begins, *(self.named_from(index) for index in held.gpus)])

    def shortfalls(self) -> set[str]:
        """Return the windows that could not begin in time as far as is known; maintenance always begins."""
        windows = [one for one in self.counting() if not one.drain]
        short = {one.id for one in windows if not one.named and self.left(one) < 0}
        short |= {one.id for one in windows if not self.possible(one)}
        maintenance = [one for one in self.counting() if one.drain]
        for one in windows:
            clash = [other for other in maintenance if one.overlaps(other)]
            if any(self.names(other, index) for other in clash for index in one.named or ()):
                short.add(one.id)
            if any(self.taken_until(self.gpus[index]) > one.at for index in one.named or ()):
                short.add(one.id)
        return short

    def play(self, choose: Callable[[list[int], int], list[int]]) -> None:
        """Begin all windows in their order; `choose` takes a number of GPUs of those that are free."""
        taken = {index: self.taken_until(gpu) for index, gpu in self.gpus.items()}
        whole = [gpu.index for gpu in self.usable()]
        for window in sorted(self.counting(), key=lambda one: one.at):
            if window.drain:
                continue
            names = {
                index
                for one in self.counting()
                if one is not window and one.overlaps(window)
                for index in self.kept(one)
            }
            free = [index for index in window.named or whole if taken[index] <= window.at]
            may = [
                index
                for index in free
                if window.vendor in {None, self.gpus[index].vendor} and index not in names
            ]
            assert len(may) >= window.count, f"{window} has only {may} of {taken}"
            for index in choose(may, window.count):
                taken |= dict.fromkeys((index, *self.gpus[index].parts), window.end)
                card = self.gpus[index].card
                if card is not None:
                    taken[card] = max(taken[card], window.end)


def meets(vendor: str | None, vendors: set[str | None]) -> bool:
    """Tell whether GPUs of a vendor could be among those of others; None is any."""
    return bool(vendors) and (vendor is None or None in vendors or vendor in vendors)
