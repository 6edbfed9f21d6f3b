"""The expected behaviour of reservations and the queue, in plain Python; it never reads a clock."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from model.facts import Gpu, Held, Request
from model.promises import NOW, Promises

from canhazgpu.service.reservations.releases import ReleaseOrder

SHORT = 1  # What lasts no longer is over as soon as somebody looks, in ms.
Event = tuple[str, str]  # The type without its prefix, and the subject.


@dataclass
class Reference(Promises):
    """The host. Each operation returns its result code and adds its events to `told`."""

    queue: list[Request] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    policy: str = "lru"
    had: dict[tuple[int, int], int] = field(default_factory=dict)  # When a user had a GPU last.
    now: int = 10**15  # Later than every release there was; what time it was is put in afterwards.

    def free(self, gpu: Gpu, request: Request) -> bool:
        """Tell whether this request may have this GPU with its instances."""
        return all(self.free_alone(one, request) for one in self.with_parts(gpu.index))

    def free_alone(self, gpu: Gpu, request: Request) -> bool:
        """Tell whether this request may have this GPU, whatever its instances are."""
        if not gpu.managed or gpu.holder or gpu.drained or gpu.state != "ok" or not gpu.settled:
            return False
        return not gpu.users or (request.kind == "manual" and gpu.users == {request.uid})

    def candidates(self, request: Request, claimed: set[int]) -> list[int]:
        """Return the GPUs it may have, best first: used by its user, had last, longest free, lowest index."""
        wanted = [
            gpu
            for gpu in self.gpus.values()
            if request.accepts(gpu) and claimed.isdisjoint((gpu.index, *gpu.parts))
            if self.free(gpu, request)
            if self.named_from(gpu.index, request.booking) >= request.until
        ]
        if self.policy == "mru-per-user":
            had = {gpu.index: self.had.get((request.uid, gpu.index), 0) for gpu in wanted}
        else:
            had = dict.fromkeys(self.gpus, 0)
        own = {gpu.index for gpu in wanted if any(one.users for one in self.with_parts(gpu.index))}
        wanted.sort(key=lambda gpu: (gpu.index not in own, -had[gpu.index], gpu.released, gpu.index))
        indices = [gpu.index for gpu in wanted]
        vendors = self.vendors_of(indices) if request.ids else {request.vendor}
        room = math.inf if request.booking else self.room(vendors, request.until)
        counted = [index for index in indices if self.gpus[index].whole and (index not in own or room < 0)]
        promised = set(counted[int(min(max(room, 0), len(counted))) :])
        return [index for index in indices if index not in promised]

    def over(self, request: Request) -> bool:
        """Tell whether its user would have more GPUs than the limit at some time, with their bookings."""
        own = [one for one in self.windows if one.uid == request.uid and one.end > NOW and not one.drain]
        moments = {NOW, *(one.at for one in own if one.begin < request.until)}
        booked = {at: sum(one.count for one in own if one.begin <= at < one.end) for at in moments}
        has = max(self.held_at(request.uid, at) + booked[at] for at in moments)
        return request.limit is not None and has + request.need > request.limit

    def held_at(self, uid: int, at: int) -> int:
        """Return how many GPUs a user holds now, and can still hold at a time."""
        own = [held for held in self.held.values() if held.uid == uid and (at <= NOW or held.until > at)]
        return sum(self.gpus[index].card not in held.gpus for held in own for index in held.gpus)

    def grant(self, request: Request, chosen: list[int]) -> None:
        """Turn a request into a reservation."""
        gpus = sorted(gpu.index for index in chosen[: request.need] for gpu in self.with_parts(index))
        self.held[request.id] = Held(
            request.id, request.uid, request.kind, gpus, request.lasts, timeout=request.timeout
        )
        for index in gpus:
            self.gpus[index].holder = request.id
        self.told.append(("reservation.created", f"reservation/{request.id}"))

    def serve(self) -> set[int]:
        """Serve the queue in order; return the GPUs that the remaining requests claim."""
        claimed: set[int] = set()
        staying = []
        for request in self.queue:
            may = [] if self.over(request) else self.candidates(request, claimed)
            if len(may) >= request.need and request.attached:
                self.grant(request, may)
                continue
            staying.append(request)
            if self.in_reach(request):
                claimed |= {gpu.index for index in may[: request.need] for gpu in self.with_parts(index)}
        self.queue = staying
        return claimed

    def in_reach(self, request: Request) -> bool:
        """Tell whether enough of the wanted GPUs are neither drained nor in error."""
        wanted = [gpu for gpu in self.gpus.values() if request.accepts(gpu)]
        return sum(not self.out(gpu) for gpu in wanted) >= request.need

    def never(self, request: Request) -> bool:
        """Tell whether the request can never be served."""
        managed = {gpu.index for gpu in self.gpus.values() if gpu.managed}
        impossible = request.ids is not None and not set(request.ids) <= managed
        possible = self.managed_for(request)
        return impossible or request.need > possible or request.need > (request.limit or request.need)

    def managed_for(self, request: Request) -> int:
        """Return the number of managed GPUs of the kind of a request."""
        managed = [gpu for gpu in self.gpus.values() if gpu.managed]
        return len(managed) if request.ids else sum(request.accepts(gpu) for gpu in managed)

    def reserve(self, request: Request) -> str:
        """Reserve; the request has the id that Redis gave it."""
        if self.never(request):
            return "never"
        claimed = self.serve()
        may, over = self.candidates(request, claimed), self.over(request)
        if len(may) >= request.need and not over:
            self.grant(request, may)
            return "granted"
        if not request.wait:
            return "limit" if over else "refused"
        self.queue.append(request)
        self.told.append(("request.queued", f"request/{request.id}"))
        return "queued"

    def back(self, request: Request) -> str:
        """Connect a waiting command to a new service."""
        if request.id in self.held:
            return "granted"
        if request not in self.queue:
            return "gone"
        request.attached = True
        self.serve()
        return "granted" if request.id in self.held else "queued"

    def let_go(self, held: Held, gpus: Iterable[int], *, seen: bool = False) -> None:
        """Release some GPUs of a reservation; `seen`: a scan found them idle.

        A card goes with its instances, and is not held without one of them.
        """
        meant = {gpu.index for index in gpus for gpu in self.with_parts(index)}
        meant |= {card for index in gpus if (card := self.gpus[index].card) is not None}
        gpus = [index for index in held.gpus if index in meant]
        for index in gpus:
            gpu = self.gpus[index]
            gpu.holder, gpu.released, gpu.settled = None, self.now, seen
            self.had[held.uid, index] = self.now
        held.gpus = [index for index in held.gpus if index not in gpus]
        if not held.gpus:
            del self.held[held.id]
        self.told.append(("reservation.released", f"reservation/{held.id}"))

    def release(self, order: ReleaseOrder) -> str:
        """Release one's own reservations, those of these GPUs or ids, or everybody's."""
        if order.gpus is not None:
            named = [(index, self.held.get(self.gpus[index].holder or "")) for index in order.gpus]
        elif order.ids is not None:
            live = [self.held[name] for name in order.ids if name in self.held]
            named = [(index, held) for held in live for index in held.gpus]
        else:
            named = [
                (index, held) for held in self.held.values() if self.meant(order, held) for index in held.gpus
            ]
        chosen: dict[str, list[int]] = {}
        for index, held in named:
            if held is None or not (held.uid == order.uid or order.admin):
                return "not-yours"
            chosen.setdefault(held.id, []).append(index)
        for name, gpus in chosen.items():
            self.let_go(self.held[name], gpus)
        if not chosen:
            return "none"
        self.serve()
        return "released"

    def meant(self, order: ReleaseOrder, held: Held) -> bool:
        """Tell whether an order without GPUs and ids applies to this reservation."""
        theirs = held.uid == order.uid or (order.everybody and order.admin)
        return theirs and (order.all or held.kind == "manual" or held.ended)

    def extend(self, uid: int, ids: tuple[int, ...] | None, add: int, most: int | None) -> str:
        """Extend manual reservations, all or none; the time since they began is negligible beside `add`."""
        if ids is None:
            chosen = [held for held in self.held.values() if held.uid == uid and held.kind == "manual"]
        else:
            named = [self.held.get(self.gpus[index].holder or "") for index in ids]
            chosen = [held for held in named if held and held.uid == uid and held.kind == "manual"]
            if len(chosen) < len(named):
                return "not-yours"
        if most is not None and any((held.lasts or 0) + add > most for held in chosen):
            return "limit"
        before = {held.id: held.lasts or 0 for held in chosen}
        for name, was in before.items():
            self.held[name].lasts = was + add
        if any(self.promised_from(self.held[name], was) < was + add for name, was in before.items()):
            for name, was in before.items():
                self.held[name].lasts = was
            return "promised"
        for name in before:
            self.told.append(("reservation.extended", f"reservation/{name}"))
        return "extended" if chosen else "none"

    def conclude(self, name: str) -> bool:
        """End a run: its process has exited."""
        held = self.held.get(name)
        if held is None or held.ended:
            return False
        held.ended = True
        self.told.append(("reservation.ended", f"reservation/{name}"))
        return True

    def expire(self) -> None:
        """End every expired reservation."""
        over = [held for held in self.held.values() if held.lasts is not None and held.lasts <= SHORT]
        for held in over:
            self.let_go(held, list(held.gpus))
        if over:
            self.serve()

    def leave(self, name: str) -> None:
        """Remove a request from the queue."""
        self.queue = [request for request in self.queue if request.id != name]
        self.told.append(("request.left", f"request/{name}"))
        self.serve()

    def cancel(self, uid: int, ids: list[str] | None, *, everything: bool) -> tuple[str, list[str]]:
        """Somebody cancels requests; return the code, and which left the queue."""
        own = [request for request in self.queue if request.uid == uid]
        if ids is not None and not any(request.id in ids for request in own):
            return "not-yours", []
        if ids is None and len(own) > 1 and not everything:
            return "several", []
        gone = [request.id for request in own if ids is None or request.id in ids]
        self.queue = [request for request in self.queue if request.id not in gone]
        self.told += [("request.left", f"request/{name}") for name in gone]
        if gone:
            self.serve()
        return "done", gone

    def drain(self, ids: tuple[int, ...], reason: str) -> None:
        """Drain GPUs with their instances, or end their drain."""
        for index in sorted({gpu.index for named in ids for gpu in self.with_parts(named)}):
            self.mark(self.gpus[index], reason)
        self.serve()

    def mark(self, gpu: Gpu, reason: str) -> None:
        """Drain a GPU for a reason, or end its drain."""
        if gpu.drained != reason:
            gpu.drained = reason
            self.told.append(("gpu.drained" if reason else "gpu.undrained", f"gpu/{gpu.index}"))

    def manage(self, ids: tuple[int, ...], *, force: bool) -> str:
        """Allow these GPUs with their instances only."""
        ids = tuple(gpu.index for index in ids for gpu in self.with_parts(index))
        held = [gpu for gpu in self.gpus.values() if gpu.holder and gpu.index not in ids]
        if held and not force:
            return "held"
        for name in {gpu.holder or "" for gpu in held}:
            self.let_go(self.held[name], [gpu.index for gpu in held if gpu.holder == name])
        for gpu in self.gpus.values():
            if gpu.managed != (gpu.index in ids):
                gpu.managed = gpu.index in ids
                self.told.append(("gpu.managed" if gpu.managed else "gpu.unmanaged", f"gpu/{gpu.index}"))
        for request in list(self.queue):
            if request.need > self.managed_for(request) or not set(request.ids or ()) <= set(ids):
                self.queue.remove(request)
                self.told.append(("request.left", f"request/{request.id}"))
        self.serve()
        return "done"

    def scan(self, seen: dict[int, tuple[str, frozenset[int]]]) -> None:
        """Apply a scan; release the GPUs of ended reservations that are idle."""
        for index, (state, users) in seen.items():
            gpu = self.gpus[index]
            gpu.state, gpu.users, gpu.settled = state, users, True
        for held in [held for held in self.held.values() if held.ended]:
            gpus = [self.gpus[index] for index in held.gpus]
            stays = any(
                gpu.state == "unknown" or (gpu.state == "ok" and held.uid in gpu.users) for gpu in gpus
            )
            if not stays:
                self.let_go(held, list(held.gpus), seen=True)
        self.serve()
