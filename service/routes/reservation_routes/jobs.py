"""The API routes of jobs: a scheduler's prolog and epilog hold GPUs for the users of its jobs. Root only."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import KUBERNETES, PBS, SLURM, Record, job_label
from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance, without_parts
from canhazgpu.events.spelling.gpu_ranges import name_gpus, spell_ranges
from canhazgpu.service.api.context import Lines, body, operation_id, proven_peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import indices
from canhazgpu.service.api.requests import JobEndRequest, JobLabelRequest, JobRequest, seconds
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.cancellation import Cancellations
from canhazgpu.service.reservations.refusals import refusal
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.reservation_routes.reservations import ReservationRoutes

SCAN_PATIENCE = 10.0  # Seconds to wait for a scan after a request.
FILES = {
    SLURM: "the setting slurm.devices maps Slurm's numbers to device files",
    PBS: "compare the GPUs that PBS has for this node with `canhazgpu status`",
}
LISTED = "`canhazgpu status` lists them"


class JobRoutes:
    """The routes of jobs. A job's limits are its scheduler's: those per user do not apply to it."""

    def __init__(
        self,
        scanner: Scanner,
        allocator: Allocator,
        users: Users,
        last_known: LastKnown,
        others: ReservationRoutes,
    ) -> None:
        """Begin reservations and queue requests in the same way as for `others`."""
        self._scanner, self._allocator, self._users = scanner, allocator, users
        self._start, self._place = others.start, others.place
        self._last_known = last_known
        self._cancellations = Cancellations(allocator)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/jobs", self.reserve, methods=["POST"]),
            Route("/v1/jobs/release", self.release, methods=["POST"]),
            Route("/v1/jobs/label", self.label, methods=["POST"]),
        ]

    async def reserve(self, request: Request) -> Response:
        """Reserve the GPUs of a job. Returns 201 with the reservation, or JSON lines while waiting."""
        peer = _root(request)
        params = await body(request, JobRequest)
        if not await self._scanner.wait_for_new_scan(SCAN_PATIENCE):
            raise Problem(503, "not-scanned", "the GPUs do not answer", "run `canhazgpu doctor`")
        gpus = await self._managed(self._gpus(params))
        if params.kind == KUBERNETES:
            _refuse_divided(gpus, self._scanner.known)
        if params.request is None:
            await self._end_former(params, gpus, peer)
        name = await self._users.name_of(params.uid)
        wait = seconds(params.wait, "wait") if isinstance(params.wait, str) else 0.0
        allocation = AllocationRequest(
            kind=params.kind,
            user=name,
            uid=params.uid,
            gpus=tuple(sorted(gpus)),
            uuids=gpus,
            label=_label(params.kind, params.job),
            wait=params.wait is not False,
            id=params.request,
        )
        begin = partial(self._start, request=request, process=None)
        place = self._place(
            allocation,
            operation_id(params.operation),
            start=begin,
            refresh=self._refresh,
            cancelled=self._cancellations.reason,
        )
        if params.wait is not False:
            return Lines(place.lines(wait or None), place.disconnect, None)
        reserved = await place.once()
        if reserved.reservation is None:
            raise refusal(reserved, allocation)
        return respond(begin(reserved.reservation, reserved.cards), 201)

    async def release(self, request: Request) -> Response:
        """End the reservations of a job, whatever GPUs they have, or those with these ids."""
        peer = _root(request)
        params = await body(request, JobEndRequest)
        if (params.job is None) == (params.ids is None):
            raise Problem(400, "bad-request", "specify either `job` or `ids`")
        held = [one for one in await self._allocator.reservations() if one.kind == params.kind]
        ids = [one.id for one in held if one.id in (params.ids or ()) or _is_of(one, params.job)]
        return respond(await self._end(ids, params.kind, peer, params.operation))

    async def label(self, request: Request) -> Response:
        """Label a reservation with the name of its job. Returns whether there is such a reservation."""
        peer = _root(request)
        params = await body(request, JobLabelRequest)
        known = await self._allocator.label(
            peer.uid,
            operation_id(params.operation),
            kind=params.kind,
            reservation=params.id,
            label=_label(params.kind, params.job),
        )
        return respond({"labelled": known})

    async def _held(self, kind: str, job: str) -> list[Record]:
        held = await self._allocator.reservations()
        return [one for one in held if one.kind == kind and _is_of(one, job)]

    async def _end_former(self, params: JobRequest, gpus: dict[int, str], peer: Peer) -> None:
        """End what the job held before it was requeued, if nobody has ended that."""
        held = await self._held(params.kind, params.job)
        former = [
            one.id for one in held if set(without_parts(one.gpus)) != set(gpus) or one.uid != params.uid
        ]
        await self._end(former, params.kind, peer, None)

    async def _end(
        self, ids: list[str], kind: str, peer: Peer, operation: str | None
    ) -> list[dict[str, Any]]:
        if not ids:
            return []
        order = ReleaseOrder(uid=peer.uid, by=kind, reason="released", ids=tuple(ids), admin=True)
        _, released, _ = await self._allocator.release(order, operation_id(operation))
        self._scanner.request_scan()
        return [one.row() for one in released]

    def _gpus(self, params: JobRequest) -> dict[int, str]:
        """Return the UUIDs of the GPUs that a job was given, by index. Raises Problem."""
        devices, known = params.devices, self._scanner.known
        if (devices is None) == (params.gpus is None):
            raise Problem(400, "bad-request", "name either devices or gpus")
        if devices is None:
            named = indices(params.gpus, known) or ()
            if missing := [index for index in named if index not in known]:
                raise Problem(400, "no-such-device", f"this host has no GPU {spell_ranges(missing)}", LISTED)
            return {index: known[index].uuid for index in named}
        cards = [gpu for gpu in known.values() if not is_instance(gpu.index)]
        by_file = {gpu.minor: gpu for gpu in cards if gpu.minor is not None}
        missing = [number for number in devices if number not in by_file]
        if missing:
            files = ", ".join(f"/dev/nvidia{number}" for number in missing)
            raise Problem(
                400,
                "no-such-device",
                f"this host has no GPU with the device file {files}",
                FILES.get(params.kind, LISTED),
            )
        return {by_file[number].index: by_file[number].uuid for number in devices}

    async def _managed(self, gpus: dict[int, str]) -> dict[int, str]:
        """Return the GPUs that are managed: the others are the scheduler's alone. Raises Problem."""
        managed = await self._last_known.managed()
        found = {index: uuid for index, uuid in gpus.items() if index in managed}
        if not found:
            detail = "none of these GPUs is managed by canhazgpu"
            raise Problem(409, "not-managed", detail, "the job needs no reservation")
        return found

    def _refresh(self, allocation: AllocationRequest) -> AllocationRequest:
        return msgspec.structs.replace(allocation, user=self._users.name(allocation.uid) or allocation.user)


def _refuse_divided(named: Iterable[int], known: Mapping[int, GpuUsage]) -> None:
    """Raise Problem for MIG instances and for GPUs that have some: a pod expects whole GPUs."""
    divided = {card_of(index) for index in known}
    parts = [index for index in named if index in divided or is_instance(index)]
    if parts:
        detail = f"{name_gpus(parts)}: pods get GPUs that are not divided into MIG instances"
        raise Problem(409, "divided", detail, "the plugin does not offer them")


def _root(request: Request) -> Peer:
    """Return the caller. Raises Problem unless it is root on this host, or the service's own user."""
    peer = proven_peer_of(request)
    require_admin(peer, None)
    return peer


def _is_of(record: Record, job: str | None) -> bool:
    return job is not None and record.label == _label(record.kind, job)


def _label(kind: str, job: str) -> str:
    return f"pod {job}" if kind == KUBERNETES else job_label(job)
