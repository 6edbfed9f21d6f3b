"""The API routes of the queue: the list, and how requests are cancelled. The kernel says who calls."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.service.api.context import body, operation_id, proven_peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.requests import CancelRequest
from canhazgpu.service.api.responses import CancelledResponse
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.cancellation import LISTED, Cancellations
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.status.queue_status import queue


class QueueRoutes:
    """The routes of the queue. Users cancel their own requests, administrators anybody's."""

    def __init__(
        self,
        allocator: Allocator,
        cancellations: Cancellations,
        users: Users,
        last_known: LastKnown,
        group: int | None,
    ) -> None:
        """Serve what these know; administrators are root and the members of `group`."""
        self._allocator, self._cancellations = allocator, cancellations
        self._users, self._last_known, self._group = users, last_known, group

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/queue", self.queue),
            Route("/v1/queue/cancel", self.cancel, methods=["POST"]),
            Route("/v1/queue/{request}", self.leave, methods=["DELETE"]),
        ]

    async def queue(self, request: Request) -> Response:
        """Return the waiting requests in order."""
        del request
        seen = await self._last_known.read_state()
        return self._last_known.respond(queue(seen), seen)

    async def cancel(self, request: Request) -> Response:
        """Cancel requests of the caller or, for administrators, of `user`; return them."""
        peer, params = proven_peer_of(request), await body(request, CancelRequest)
        if params.ids is not None and params.all:
            raise Problem(400, "bad-request", "specify only one of `ids` and `all`")
        uid = await self._whose(peer, params.user)
        cancelled = await self._cancellations.cancel(
            uid,
            operation_id(params.operation),
            peer.name,
            ids=params.ids,
            everything=params.all,
            person=peer.person if params.user is None else None,
        )
        rows = dict.fromkeys(CancelledResponse.__struct_fields__)
        return respond([{**rows, **one} for one in cancelled])

    async def leave(self, request: Request) -> Response:
        """Remove the caller's request from the queue."""
        peer, name = proven_peer_of(request), request.path_params["request"]
        if name not in [one.id for one in await self._allocator.waiting()]:
            raise Problem(404, "no-such-request", "no such request is in the queue", LISTED)
        await self._cancellations.cancel(
            peer.uid, operation_id(None), peer.name, ids=[name], everything=False, person=peer.person
        )
        return respond({"left": name})

    async def _whose(self, peer: Peer, user: str | None) -> int:
        """Return the uid of the user whose requests are meant. Raises Problem."""
        uid = peer.uid if user is None else await self._users.uid_meant(user)
        if uid != peer.uid:
            require_admin(peer, self._group)
        if uid is None:
            raise Problem(400, "no-such-user", "there is no such user on this host")
        return uid
