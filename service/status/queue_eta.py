"""Predicts when waiting requests are served, by simulating the queue with the rules of the scripts."""

import math
from collections.abc import Iterable, Iterator

from canhazgpu.events.reservations import SCHEDULERS, Record, Waiting, Window
from canhazgpu.events.spelling.gpu_numbers import is_instance, without_parts
from canhazgpu.service.status.promised_windows import Promises, cards_of, end_of, is_possible
from canhazgpu.service.storage.snapshot import Snapshot, instances_by_card

LOOKS = 2000  # Maximum number of steps; the end of a longer queue is not predicted.
WINDOWS = 10  # So many promised windows are a step of their own.


def queue_eta(snapshot: Snapshot) -> dict[str, int]:
    """Return the time in ms at which each request gets its GPUs if all reservations last as long as allowed.

    Requests without a predictable time are left out: a run without a timeout has no end, and GPUs that are
    broken or used without a reservation are not counted. Bookings begin at their time.
    """
    play = _Simulation(snapshot)
    waiting, moment, looks = list(snapshot.waiting), float(snapshot.now_ms), 0
    found: dict[str, int] = {}
    while waiting and not math.isinf(moment) and looks < LOOKS:
        looks += len(waiting) + len(snapshot.windows) // WINDOWS
        served = set(play.serve(waiting, moment))
        found |= dict.fromkeys(served, int(moment))
        waiting = [request for request in waiting if request.id not in served]
        moment = play.next_end(moment)
    return found


class _Simulation:
    """The host at a future time: the end of each GPU's reservation, and the GPUs of each user."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.taken: dict[int, float] = {}
        self.lost = set[int]()  # GPUs that never become available.
        self.usages = {gpu.usage.index: gpu.usage for gpu in snapshot.gpus}
        self.instances = instances_by_card(snapshot)
        for gpu in snapshot.gpus:
            if gpu.usage.state == "error" or gpu.drained or gpu.unmanaged:
                self.lost.add(gpu.usage.index)
            broken = gpu.usage.state != "ok" or gpu.drained or gpu.unmanaged or gpu.unreadable
            if broken or (gpu.usage.in_use and not gpu.reservation):
                self.taken[gpu.usage.index] = math.inf
            else:
                self.taken[gpu.usage.index] = _taken_until(gpu.reservation, snapshot.now_ms)
        self.held = [(one.uid, _end(one), len(without_parts(one.gpus))) for one in snapshot.reservations]
        self.windows = list(snapshot.windows)
        self.cards = {card.index: card for card in cards_of(snapshot)} if self.windows else {}
        self._promises: Promises | None = None

    def serve(self, waiting: Iterable[Waiting], moment: float) -> Iterable[str]:
        """Go through the queue like the scripts; yield the requests that are served."""
        self._promises = None
        claimed = self._begin(moment)
        for request in waiting:
            end = moment + (request.duration_ms or request.timeout_ms or math.inf)
            if self._capped(request, moment, end):
                continue
            named = set(request.gpus or self.taken)
            wanted = [index for index in self.taken if index in named and self._is_of(index, request)]
            may = [index for index in wanted if self._free(index, moment)]
            may = [index for index in may if claimed.isdisjoint(self._parts([index]))]
            if request.kind not in SCHEDULERS:
                may = [index for index in may if self._is_unnamed(index, end, moment)]
                may = self._unpromised(request, may, end, moment)
            may = may[: request.need]
            if len(may) < request.need:
                in_reach = [index for index in wanted if self.lost.isdisjoint(self._parts([index]))]
                claimed |= self._parts(may) if len(in_reach) >= request.need else set()
                continue
            self._take(may, request.uid, end)
            yield request.id

    def next_end(self, moment: float) -> float:
        """Return the time of the next end or begin, or infinity."""
        ends = [*self.taken.values(), *(end for _, end, _ in self.held)]
        ends += [at for one in self.windows for at in (one.begin_ms, one.end_ms)]
        return min((end for end in ends if end > moment), default=math.inf)

    def _begin(self, moment: float) -> set[int]:
        """Begin the bookings whose time has come; return the GPUs that are kept for those that are late."""
        kept = set[int]()
        for window in [one for one in self.windows if one.begin_ms <= moment]:
            may = [index for index in self._of_window(window) if self._free(index, moment)]
            may = [one for one in may if kept.isdisjoint(self._parts([one]))]
            may = [one for one in may if self._is_unnamed(one, window.end_ms, moment, window.id)][
                : window.count
            ]
            if window.end_ms <= moment or len(may) == window.count:
                self.windows.remove(window)
                if window.end_ms > moment:
                    self._take(may, window.uid, window.end_ms)
                self._promises = None
            elif is_possible(window, list(self.cards.values())):
                kept |= self._parts(may)
        return kept

    def _of_window(self, window: Window) -> Iterator[int]:
        for index, card in self.cards.items():
            if (
                card.uuid in window.cards
                if window.cards
                else card.whole and window.vendor in {None, card.vendor}
            ):
                yield index

    def _take(self, gpus: list[int], uid: int, end: float) -> None:
        parts = self._parts(gpus)
        self.taken |= dict.fromkeys(parts, end)
        self.held.append((uid, end, len(gpus)))
        for index in parts if self.cards else ():
            self.cards[index].free_ms = end
        self._promises = None

    def _promised(self, moment: float) -> Promises:
        if self._promises is None:
            self._promises = Promises(self.windows, list(self.cards.values()), moment)
        return self._promises

    def _is_unnamed(self, index: int, end: float, moment: float, booking: str = "") -> bool:
        if not self.windows or index not in self.cards:
            return True
        return self._promised(moment).named_from(self.cards[index].uuid, booking) >= end

    def _unpromised(self, request: Waiting, may: list[int], end: float, moment: float) -> list[int]:
        """Return the GPUs without those that are promised; that is a number of whole GPUs."""
        if not self.windows:
            return may
        whole = [index for index in may if self.cards[index].whole]
        vendors = {self.cards[index].vendor for index in whole}
        vendor = vendors.pop() if request.gpus and len(vendors) == 1 else request.vendor
        room = self._promised(moment).room(vendor, end)
        over = set[int]() if math.isinf(room) else set(whole[int(room) :])
        return [index for index in may if index not in over]

    def _is_of(self, index: int, request: Waiting) -> bool:
        """Return whether a GPU is of the kind that a request asks for, as `is_of` in the scripts."""
        if request.profile is not None:
            return self.usages[index].profile == request.profile
        if request.gpus is None and (is_instance(index) or index in self.instances):
            return False
        return request.vendor is None or self.usages[index].vendor == request.vendor

    def _parts(self, indices: Iterable[int]) -> set[int]:
        """Return GPUs with their MIG instances."""
        return {one for index in indices for one in (index, *self.instances.get(index, ()))}

    def _free(self, index: int, moment: float) -> bool:
        return all(self.taken.get(one, math.inf) <= moment for one in self._parts([index]))

    def _capped(self, request: Waiting, moment: float, until: float) -> bool:
        """Return whether its user would have more GPUs than the limit at some time, with what is booked."""
        if request.limit is None:
            return False
        own = [one for one in self.windows if one.uid == request.uid and one.begin_ms < until]
        return any(
            self._held(request.uid, at)
            + sum(one.count for one in own if one.begin_ms <= at < one.end_ms)
            + request.need
            > request.limit
            for at in (moment, *(one.begin_ms for one in own if one.begin_ms > moment))
        )

    def _held(self, uid: int, at: float) -> int:
        return sum(count for other, end, count in self.held if other == uid and end > at)


def _taken_until(record: Record | None, now_ms: int) -> float:
    return max(_end(record), now_ms + 1) if record else 0


def _end(record: Record) -> float:
    return end_of(record) or math.inf
