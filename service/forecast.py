"""When those who wait are likely to be served: the queue played forward by the rule of the scripts."""

import math
from collections.abc import Iterable

from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.snapshot import Snapshot

LOOKS = 2000  # At a request; a queue that takes more to foresee is not foreseen to its end.


def forecast(snapshot: Snapshot) -> dict[str, int]:
    """Return the moment, in ms, at which each request gets its GPUs if everybody stays as long as they may.

    Those that nothing says a moment for are left out: a run without a timeout has no end, a GPU that is
    broken or used without a reservation is not counted on.
    """
    play = _Play(snapshot)
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
    """Return when a reservation ends at the latest, in ms, None when nothing says so."""
    if record.timeout_ms is not None:
        return record.started_ms + record.timeout_ms
    return record.expires_ms


class _Play:
    """The host at a moment to come: until when each GPU is taken, and how many each user has for how long."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.taken: dict[int, float] = {}
        self.lost = set[int]()  # What no waiting brings.
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
        """Go along the queue as the scripts do; yield who is served."""
        claimed: set[int] = set()
        for request in waiting:
            if self._capped(request, moment):
                continue
            may = [index for index in request.gpus or self.taken if self._free(index, moment)]
            may = [index for index in may if index not in claimed][: request.need]
            if len(may) < request.need:
                in_reach = (set(request.gpus or self.taken) & self.taken.keys()) - self.lost
                claimed |= set(may) if len(in_reach) >= request.need else set()
                continue
            end = moment + (request.duration_ms or request.timeout_ms or math.inf)
            self.taken |= dict.fromkeys(may, end)
            self.held.append((request.uid, end, request.need))
            yield request.id

    def next_end(self, moment: float) -> float:
        """Return when something ends next, infinity when nothing does."""
        ends = [*self.taken.values(), *(end for _, end, _ in self.held)]
        return min((end for end in ends if end > moment), default=math.inf)

    def _free(self, index: int, moment: float) -> bool:
        return self.taken.get(index, math.inf) <= moment

    def _capped(self, request: Waiting, moment: float) -> bool:
        has = sum(count for uid, end, count in self.held if uid == request.uid and end > moment)
        return request.limit is not None and has + request.need > request.limit


def _end(record: Record) -> float:
    return end_of(record) or math.inf
