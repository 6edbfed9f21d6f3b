"""The API routes for administrators: ending reservations, draining GPUs, and choosing the managed GPUs."""

from collections.abc import Sequence
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.events.spelling.gpu_numbers import is_instance, spell_gpu
from canhazgpu.service.api.context import body, operation_id, peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import indices, uuids
from canhazgpu.service.api.requests import AdminReleaseRequest, DrainRequest, ManageRequest
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder

NAMED = 3  # Missing GPUs to list; the rest are counted.
NO_REASON = "by an administrator"


class AdminRoutes:
    """The routes for root and the administrators' group. Every change creates an event and is logged."""

    def __init__(
        self,
        scanner: Scanner,
        allocator: Allocator,
        group: int | None,
        users: Users,
    ) -> None:
        """Allow root and the members of `group`."""
        self._scanner = scanner
        self._allocator = allocator
        self._group = group
        self._users = users

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/admin/release", self.release, methods=["POST"]),
            Route("/v1/admin/drain", self.drain, methods=["POST"]),
            Route("/v1/admin/undrain", self.undrain, methods=["POST"]),
            Route("/v1/admin/manage", self.manage, methods=["POST"]),
        ]

    async def release(self, request: Request) -> Response:
        """End reservations of any user; the users are notified."""
        peer = self._admin(request)
        params = await body(request, AdminReleaseRequest)
        given = [params.gpus is not None, params.user is not None, params.all]
        if sum(given) != 1:
            raise Problem(400, "bad-request", "specify exactly one of `gpus`, `user` and `all`")
        uid = peer.uid if params.user is None else await self._users.uid_meant(params.user)
        if uid is None:
            raise Problem(400, "no-such-user", "there is no such user on this host")
        order = ReleaseOrder(
            uid=uid,
            by=peer.name,
            reason="admin",
            gpus=indices(params.gpus, self._scanner.known),
            uuids=uuids(params.gpus, self._scanner.known),
            all=True,
            admin=True,
            everybody=params.all,
        )
        code, released, blocked = await self._allocator.release(order, operation_id(params.operation))
        if code == "not-yours":
            known = self._scanner.known
            if known and (missing := [one.gpu for one in blocked if one.gpu not in known]):
                raise self._missing(missing)
            free = ", ".join(spell_gpu(one.gpu) for one in blocked)
            raise Problem(409, "not-reserved", f"GPU {free} is not reserved: nothing was changed")
        self._log(peer, "release", [one.id for one in released])
        self._scanner.request_scan()
        return respond([one.row() for one in released])

    async def drain(self, request: Request) -> Response:
        """Stop allocating GPUs; existing reservations continue."""
        peer = self._admin(request)
        params = await body(request, DrainRequest)
        return await self._drain(peer, params, params.reason or NO_REASON)

    async def undrain(self, request: Request) -> Response:
        """Make drained GPUs available again."""
        peer = self._admin(request)
        return await self._drain(peer, await body(request, DrainRequest), None)

    async def manage(self, request: Request) -> Response:
        """Set which GPUs are managed; `force` ends reservations of the others."""
        peer = self._admin(request)
        params = await body(request, ManageRequest)
        gpus = indices(params.gpus, self._scanner.known)
        if gpus is not None and params.count not in (None, len(gpus)):
            raise Problem(400, "bad-request", f"`count` is {params.count}, but {len(gpus)} GPUs are named")
        if gpus is None:
            gpus = tuple(range(params.count)) if params.count else tuple(sorted(self._scanner.known))
        if not gpus:
            raise Problem(409, "no-gpu", "no GPU was found on this host", "run `canhazgpu doctor`")
        reply, released = await self._allocator.manage(
            peer.uid,
            operation_id(params.operation),
            gpus=gpus,
            force=params.force,
            by=peer.name,
            uuids=uuids(params.gpus, self._scanner.known),
        )
        if reply["code"] == "missing":
            raise self._missing(reply["missing"])
        if reply["code"] == "held":
            held = ", ".join(f"GPU {spell_gpu(one['gpu'])} by {one['by']}" for one in reply["held"])
            raise Problem(409, "held", f"reserved: {held}", "release them first, or use --force")
        self._log(peer, "manage", list(gpus))
        self._scanner.request_scan()
        return respond(
            {"managed": list(gpus), "released": sorted(gpu for one in released for gpu in one.gpus)}
        )

    async def _drain(self, peer: Peer, params: DrainRequest, reason: str | None) -> Response:
        known = self._scanner.known
        everything = params.gpus == "all"
        gpus = tuple(sorted(known)) if everything else indices(params.gpus, known) or ()
        reply = await self._allocator.drain(
            peer.uid,
            operation_id(params.operation),
            gpus=gpus,
            reason=reason,
            by=peer.name,
            uuids=None if everything else uuids(params.gpus, known),
        )
        if reply["code"] == "missing":
            raise self._missing(reply["missing"])
        self._log(peer, "drain" if reason else "undrain", reply["changed"])
        return respond({"changed": reply["changed"], "reason": reason})

    def _admin(self, request: Request) -> Peer:
        peer = peer_of(request)
        require_admin(peer, self._group)
        return peer

    def _missing(self, missing: Sequence[int]) -> Problem:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        named = ", ".join(map(spell_gpu, missing[:NAMED])) + more
        known = sum(not is_instance(index) for index in self._scanner.known)
        return Problem(400, "no-such-gpu", f"there is no GPU {named}: this host has {known}")

    def _log(self, peer: Peer, action: str, what: Sequence[Any]) -> None:
        structlog.get_logger().info("admin", action=action, by=peer.name, uid=peer.uid, what=what)
