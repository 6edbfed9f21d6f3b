"""Predicts when waiting requests are served, by simulating the queue with the rules of the scripts."""

import math
from collections.abc import Iterable

from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.storage.snapshot import Snapshot

LOOKS = 2000  # Maximum number of steps; the end of a longer queue is not predicted.


def queue_eta(snapshot: Snapshot) -> dict[str, int]:
    """Return the time in ms at which each request gets its GPUs if all reservations last as long as allowed.

    Requests without a predictable time are left out: a run without a timeout has no end, and GPUs that are
    broken or used without a reservation are not counted.
    """
    play = _Simulation(snapshot)
    waiting, moment, looks = list(snapshot.waiting), float(snapshot.now_ms), 0
    found: dict[str, int] = {}
    while waiting and not math.isinf(moment) and looks < LOOKS:
        looks += len(waiting)
        served = set(play.serve(waiting, moment))
        found |= dict.fromkeys(served, int(moment))
        waiting = [request for request in waiting if request.id not in served]
        moment = play.next_end(moment)
    return found


def end_of(record: Record) -> int | None:
    """Return the latest end of a reservation in ms, or None if it has none."""
    if record.timeout_ms is not None:
        return record.started_ms + record.timeout_ms
    return record.expires_ms


class _Simulation:
    """The host at a future time: the end of each GPU's reservation, and the GPUs of each user."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.taken: dict[int, float] = {}
        self.lost = set[int]()  # GPUs that never become available.
        self.vendors = {gpu.usage.index: gpu.usage.vendor for gpu in snapshot.gpus}
        for gpu in snapshot.gpus:
            if gpu.usage.state == "error" or gpu.drained or gpu.unmanaged:
                self.lost.add(gpu.usage.index)
            broken = gpu.usage.state != "ok" or gpu.drained or gpu.unmanaged or gpu.unreadable
            if broken or (gpu.usage.in_use and not gpu.reservation):
                self.taken[gpu.usage.index] = math.inf
            else:
                self.taken[gpu.usage.index] = _end(gpu.reservation) if gpu.reservation else 0
        self.held = [(one.uid, _end(one), len(one.gpus)) for one in snapshot.reservations]

    def serve(self, waiting: Iterable[Waiting], moment: float) -> Iterable[str]:
        """Go through the queue like the scripts; yield the requests that are served."""
        claimed: set[int] = set()
        for request in waiting:
            if self._capped(request, moment):
                continue
            named = set(request.gpus or self.taken)
            wanted = [index for index in self.taken if index in named and self._is_of(index, request)]
            may = [index for index in wanted if self._free(index, moment)]
            may = [index for index in may if index not in claimed][: request.need]
            if len(may) < request.need:
                in_reach = set(wanted) - self.lost
                claimed |= set(may) if len(in_reach) >= request.need else set()
                continue
            end = moment + (request.duration_ms or request.timeout_ms or math.inf)
            self.taken |= dict.fromkeys(may, end)
            self.held.append((request.uid, end, request.need))
            yield request.id

    def next_end(self, moment: float) -> float:
        """Return the time of the next end, or infinity."""
        ends = [*self.taken.values(), *(end for _, end, _ in self.held)]
        return min((end for end in ends if end > moment), default=math.inf)

    def _is_of(self, index: int, request: Waiting) -> bool:
        return request.vendor is None or self.vendors.get(index) == request.vendor

    def _free(self, index: int, moment: float) -> bool:
        return self.taken.get(index, math.inf) <= moment

    def _capped(self, request: Waiting, moment: float) -> bool:
        has = sum(count for uid, end, count in self.held if uid == request.uid and end > moment)
        return request.limit is not None and has + request.need > request.limit


def _end(record: Record) -> float:
    return end_of(record) or math.inf
