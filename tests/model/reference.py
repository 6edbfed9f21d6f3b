"""The expected behaviour of reservations and the queue, in plain Python; it never reads a clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from canhazgpu.service.reservations.releases import ReleaseOrder

SHORT = 1  # What lasts no longer is over as soon as somebody looks, in ms.
Event = tuple[str, str]  # The type without its prefix, and the subject.


@dataclass
class Gpu:
    """One GPU: the result of the last scan, and its drain."""

    index: int
    state: str = "ok"
    users: frozenset[int] = frozenset()
    released: int = 0
    settled: bool = True  # Scanned since its last release.
    drained: bool = False
    managed: bool = True
    holder: str | None = None
    vendor: str = "nvidia"


@dataclass
class Held:
    """A live reservation."""

    id: str
    uid: int
    kind: str
    gpus: list[int]
    lasts: int | None = None  # Milliseconds since it began.
    ended: bool = False


@dataclass
class Request:
    """A request for certain GPUs or for a number of GPUs."""

    uid: int
    kind: str
    count: int
    ids: tuple[int, ...] | None = None
    limit: int | None = None
    lasts: int | None = None
    wait: bool = False
    vendor: str | None = None
    id: str = ""
    attached: bool = True

    @property
    def need(self) -> int:
        """Return the number of GPUs."""
        return len(self.ids) if self.ids else self.count

    def accepts(self, gpu: Gpu) -> bool:
        """Tell whether it is for this GPU, whatever the state of that."""
        return (self.ids is None or gpu.index in self.ids) and self.vendor in {None, gpu.vendor}


@dataclass
class Reference:
    """The host. Each operation returns its result code and adds its events to `told`."""

    gpus: dict[int, Gpu]
    held: dict[str, Held] = field(default_factory=dict)
    queue: list[Request] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    policy: str = "lru"
    had: dict[tuple[int, int], int] = field(default_factory=dict)  # When a user had a GPU last.
    now: int = 10**15  # Later than every release there was; what time it was is put in afterwards.

    def free(self, gpu: Gpu, request: Request) -> bool:
        """Tell whether this request may have this GPU."""
        if not gpu.managed or gpu.holder or gpu.drained or gpu.state != "ok" or not gpu.settled:
            return False
        return not gpu.users or (request.kind == "manual" and gpu.users == {request.uid})

    def candidates(self, request: Request, claimed: set[int]) -> list[int]:
        """Return the GPUs it may have, best first: used by its user, had last, longest free, lowest index."""
        wanted = [
            gpu
            for gpu in self.gpus.values()
            if request.accepts(gpu) and gpu.index not in claimed and self.free(gpu, request)
        ]
        if self.policy == "mru-per-user":
            had = {gpu.index: self.had.get((request.uid, gpu.index), 0) for gpu in wanted}
        else:
            had = dict.fromkeys(self.gpus, 0)
        wanted.sort(key=lambda gpu: (not gpu.users, -had[gpu.index], gpu.released, gpu.index))
        return [gpu.index for gpu in wanted]

    def over(self, request: Request) -> bool:
        """Tell whether it would exceed the limit of its user."""
        has = sum(len(held.gpus) for held in self.held.values() if held.uid == request.uid)
        return request.limit is not None and has + request.need > request.limit

    def grant(self, request: Request, chosen: list[int]) -> None:
        """Turn a request into a reservation."""
        gpus = sorted(chosen[: request.need])
        self.held[request.id] = Held(request.id, request.uid, request.kind, gpus, request.lasts)
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
                claimed |= set(may[: request.need])
        self.queue = staying
        return claimed

    def in_reach(self, request: Request) -> bool:
        """Tell whether enough of the wanted GPUs are neither drained nor in error."""
        wanted = [gpu for gpu in self.gpus.values() if request.accepts(gpu)]
        whole = [gpu for gpu in wanted if gpu.managed and not gpu.drained and gpu.state != "error"]
        return len(whole) >= request.need

    def never(self, request: Request) -> bool:
        """Tell whether the request can never be served."""
        managed = {gpu.index for gpu in self.gpus.values() if gpu.managed}
        impossible = request.ids is not None and not set(request.ids) <= managed
        possible = [index for index in managed if request.vendor in {None, self.gpus[index].vendor}]
        return impossible or request.need > len(possible) or request.need > (request.limit or request.need)

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
        """Release some GPUs of a reservation; `seen`: a scan found them idle."""
        gpus = list(gpus)
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
        for name in {held.id for held in chosen}:
            self.held[name].lasts = (self.held[name].lasts or 0) + add
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

    def drain(self, ids: tuple[int, ...], *, drained: bool) -> None:
        """Drain GPUs, or end their drain."""
        for index in ids:
            if self.gpus[index].drained != drained:
                self.gpus[index].drained = drained
                self.told.append(("gpu.drained" if drained else "gpu.undrained", f"gpu/{index}"))
        self.serve()

    def manage(self, ids: tuple[int, ...], *, force: bool) -> str:
        """Allow these GPUs only."""
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
            of_vendor = [index for index in ids if request.vendor in {None, self.gpus[index].vendor}]
            if request.need > len(of_vendor) or not set(request.ids or ()) <= set(ids):
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
