"""The API routes of reservations. The caller is identified by the kernel."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.linux.processes import identify
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import MANUAL, RUN, Record
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.api.context import (
    Lines,
    body,
    on_delivered,
    operation_id,
    process_of,
    proven_peer_of,
    respond,
)
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import indices, uuids
from canhazgpu.service.api.requests import (
    DisownRequest,
    ExtendRequest,
    ReleaseRequest,
    ReserveRequest,
    duration_of,
    label_of,
    seconds,
)
from canhazgpu.service.api.vendor_choice import all_gpus, vendor_of
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.cancellation import Cancellations
from canhazgpu.service.reservations.handover import Handover
from canhazgpu.service.reservations.holder_token import open_tokens
from canhazgpu.service.reservations.lifetime import Lifetime
from canhazgpu.service.reservations.queue_wait import QueuePlace
from canhazgpu.service.reservations.refusals import not_extended, not_visible, not_yours, refusal
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.reservations.script_replies import Blocked
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.reservation_routes.containers import ContainerRoutes
from canhazgpu.service.routes.reservation_routes.own_reservations import OwnReservationRoutes
from canhazgpu.service.routes.reservation_routes.waiting_requests import QueueRoutes
from canhazgpu.service.status.gpu_status import reservation
from canhazgpu.service.status.shared_queue import SharedQueue
from canhazgpu.service.storage.snapshot import snapshot

SETTLED = 3.0  # Seconds to wait for the end of runs whose processes have ended.
SCAN_PATIENCE = 10.0  # Seconds to wait for a scan after a request; only needed on a host under heavy load.


class ReservationRoutes:
    """The routes for a user's own reservations, and the public lists."""

    def __init__(  # noqa: PLR0913, PLR0917 - each has a part in it
        self,
        settings: Settings,
        store: Store,
        scanner: Scanner,
        allocator: Allocator,
        liveness: Lifetime,
        handover: Handover,
        users: Users,
        last_known: LastKnown,
        group: int | None,
        allowances: Allowances,
    ) -> None:
        """Serve what these know."""
        self._settings = settings
        self._allowances, self._store = allowances, store
        self._scanner = scanner
        self._allocator = allocator
        self._liveness = liveness
        self._handover = handover
        self._users = users
        self._last_known = last_known
        self.place = partial(QueuePlace, SharedQueue(store, allocator), allocator, handover)
        self._cancellations = Cancellations(allocator)
        self._queue = QueueRoutes(allocator, self._cancellations, users, last_known, group)
        tokens = open_tokens(settings)
        self._own = OwnReservationRoutes(settings, scanner, allocator, last_known, tokens, allowances)
        self._containers = ContainerRoutes(settings, users, last_known, tokens)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/reservations", self.reservations),
            Route("/v1/reservations", self.reserve, methods=["POST"]),
            Route("/v1/reservations/release", self.release, methods=["POST"]),
            Route("/v1/reservations/extend", self.extend, methods=["POST"]),
            Route("/v1/reservations/disown", self.disown, methods=["POST"]),
            *self._own.routes(),
            *self._queue.routes(),
            *self._containers.routes(),
        ]

    async def reservations(self, request: Request) -> Response:
        """Return all live reservations, the oldest first."""
        del request
        seen = await self._last_known.read_state()
        return self._last_known.respond([reservation(one, seen.now_ms) for one in seen.reservations], seen)

    async def reserve(self, request: Request) -> Response:
        """Reserve GPUs, all or none. Returns 201 with the reservation, or JSON lines while waiting."""
        peer, params = proven_peer_of(request), await body(request, ReserveRequest)
        wait = self._wait_of(params)
        if params.gpus == "all":
            named = all_gpus(params.vendor, await self._last_known.managed(), self._scanner.known)
            params = msgspec.structs.replace(params, gpus=named)
        operation = operation_id(params.operation)
        if params.request is None and (held := await self._own.held(peer, params, wait=wait is not None)):
            return respond(held, 201)
        process = process_of(request) if params.kind == RUN else None
        if params.kind == RUN and process is None:
            raise not_visible(None)
        try:
            allocation = await self._allocation_request(peer, params, process, wait=wait is not None)
            if params.request is None:
                await self._liveness.settle(SETTLED)  # The command before this one may have been a run.
                await self._scanned(wait=wait is not None)
            begin = partial(self.start, request=request, process=process)
            place = self.place(
                allocation,
                operation,
                start=begin,
                refresh=self._refresh,
                cancelled=self._cancellations.reason,
            )
            if wait is not None:
                lines, process = Lines(place.lines(wait or None), place.disconnect, process), None
                return lines
            reserved = await place.once()
            if reserved.reservation is None:
                raise refusal(reserved, allocation)
            return respond(begin(reserved.reservation, reserved.cards), 201)
        finally:
            if process is not None:
                os.close(process)

    def start(
        self, record: Record, cards: Mapping[str, str], *, request: Request, process: int | None
    ) -> dict[str, Any]:
        """Bind a reservation of these cards to its process or expiry; return the response."""
        if record.kind == RUN:
            self._liveness.watch(record, process)
        else:
            self._liveness.plan_expiry(record)
            self._handover.send(record, partial(on_delivered, request))
        if self._scanner.may_be_used(record.gpus):
            self._scanner.request_scan()  # This closes a violation that the reservation ends.
        shown = reservation(record, record.started_ms)
        variables = self._own.environment(record, cards=cards)
        return {"state": "granted", "held": None, "reservation": shown, "environment": variables}

    async def release(self, request: Request) -> Response:
        """Release the caller's reservations; runs continue without them, and their user is notified."""
        peer, params = proven_peer_of(request), await body(request, ReleaseRequest)
        if (params.ids is not None) + (params.gpus is not None) + params.all > 1:
            raise Problem(400, "bad-request", "specify only one of `ids`, `gpus` and `all`")
        order = ReleaseOrder(
            uid=peer.uid,
            by=peer.name,
            reason="released",
            person=peer.person,
            gpus=indices(params.gpus, self._scanner.known),
            uuids=uuids(params.gpus, self._scanner.known),
            ids=tuple(sorted(set(params.ids))) if params.ids is not None else None,
            all=params.all,
        )
        code, released, blocked = await self._allocator.release(order, operation_id(params.operation))
        if code == "not-yours":
            raise not_yours(blocked, "release", self._scanner.known)
        if released:
            self._scanner.request_scan()  # So that what is free is free.
        return respond([one.row() for one in released])

    async def extend(self, request: Request) -> Response:
        """Extend the caller's manual reservations."""
        peer, params = proven_peer_of(request), await body(request, ExtendRequest)
        longest = self._allowances.of(peer.name).longest
        bare = params.duration is None
        more = self._settings.reserve.duration if bare else seconds(params.duration or "", "duration")
        reply = await self._allocator.extend(
            peer.uid,
            operation_id(params.operation),
            gpus=indices(params.gpus, self._scanner.known),
            uuids=uuids(params.gpus, self._scanner.known),
            add_ms=round(more * 1000),
            most_ms=round(longest * 1000) if longest else None,
            cut=bare,
            person=peer.person,
        )
        if reply["code"] == "not-yours":
            raise not_yours(msgspec.convert(reply["blocked"], list[Blocked]), "extend", self._scanner.known)
        if reply["code"] != "extended":
            raise not_extended(reply)
        self._liveness.expiry_changed()
        seen = await snapshot(self._store)
        ids = {one["id"] for one in reply["extended"]}
        return respond([reservation(one, seen.now_ms) for one in seen.reservations if one.id in ids])

    async def disown(self, request: Request) -> Response:
        """Disown the presumed use of the caller's GPUs; the next scans make it a violation."""
        peer, params = proven_peer_of(request), await body(request, DisownRequest)
        if not params.undo:
            await self._scanned(wait=False)
        reply = await self._allocator.disown(
            peer.uid,
            operation_id(params.operation),
            gpus=indices(params.gpus, self._scanner.known),
            uuids=uuids(params.gpus, self._scanner.known),
            undo=params.undo,
            person=peer.person,
        )
        if reply["code"] == "not-yours":
            raise not_yours(msgspec.convert(reply["blocked"], list[Blocked]), "disown", self._scanner.known)
        self._scanner.request_scan()
        return respond([{"gpu": one["gpu"], "users": one.get("users")} for one in reply["disowned"]])

    async def _scanned(self, *, wait: bool) -> None:
        """Wait for a scan that starts after this call; waiting requests wait until the driver answers."""
        if not await self._scanner.wait_for_new_scan(SCAN_PATIENCE):
            raise Problem(503, "not-scanned", "the GPUs do not answer", "run `canhazgpu doctor`")
        if not wait and (refused := await self._last_known.refusal()):
            raise refused
        trouble = self._scanner.trouble
        if trouble and not wait:
            raise Problem(503, "not-scanned", f"the GPUs cannot be read: {trouble.reason}", trouble.remedy)

    def _wait_of(self, params: ReserveRequest) -> float | None:
        """Return how long to wait in seconds; 0 means indefinitely, None means not at all."""
        wait = params.wait
        if wait is None:
            wait = self._settings.run.wait if params.kind == RUN else self._settings.reserve.wait
        if isinstance(wait, bool):
            return 0.0 if wait else None
        return seconds(wait, "wait")

    def _refresh(self, allocation: AllocationRequest) -> AllocationRequest:
        name = self._users.name(allocation.uid) or allocation.user
        return msgspec.structs.replace(allocation, user=name, **self._allowances.of(name).of_request())

    async def _allocation_request(
        self, peer: Peer, params: ReserveRequest, descriptor: int | None, *, wait: bool
    ) -> AllocationRequest:
        may, known = self._allowances.of(peer.name), self._scanner.known
        gpus = indices(params.gpus, known)
        if gpus is not None and params.count not in (None, len(gpus)):
            raise Problem(400, "bad-request", f"`count` is {params.count}, but {len(gpus)} GPUs are named")
        if params.kind == RUN:
            if params.duration is not None:
                raise Problem(400, "bad-request", "a run has a timeout, not a duration")
            lasts = duration_of(params.timeout, None, may.longest, "timeout")
        else:
            if params.timeout is not None:
                raise Problem(400, "bad-request", "a manual reservation has a duration, not a timeout")
            lasts = duration_of(params.duration, self._settings.reserve.duration, may.longest, "duration")
        process = None if descriptor is None else identify(descriptor)
        if descriptor is not None and process is None:
            raise not_visible(descriptor)
        may_signal = os.geteuid() in (0, peer.uid)
        if params.kind == RUN and not may_signal:
            if params.timeout is not None:
                remedy = "leave out --timeout, or run the service as root"
                refused = "the service is not allowed to end your processes"
                raise Problem(409, "cannot-signal", refused, remedy)
            lasts = None  # The limit cannot be enforced; the service's log and `doctor` report this.
        admin = peer.uid == 0 and peer.is_admin(None)
        lasts_ms = None if lasts is None else round(lasts * 1000)
        return AllocationRequest(
            kind=params.kind,
            user=peer.name,
            uid=peer.uid,
            login_uid=peer.login_uid,
            count=None if gpus else params.count or 1,
            vendor=vendor_of(params.vendor, gpus, known, self._settings.allocation.vendor, params.profile),
            profile=params.profile,
            gpus=gpus,
            label=await label_of(params.label, peer, self._users, admin=admin),
            note=params.note,
            pid=process.pid if process else None,
            start=process.start if process else None,
            timeout_ms=lasts_ms if params.kind == RUN else None,
            duration_ms=lasts_ms if params.kind == MANUAL else None,
            wait=wait,
            id=params.request,
            uuids=uuids(params.gpus, known) if gpus else None,
            **may.of_request(),
        )
