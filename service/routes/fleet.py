"""The API routes of the fleet. What reads it is imported only if the host is in a fleet."""

import grp
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.context import peer_of, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.routes.operation import TEXT, Operation

if TYPE_CHECKING:
    from canhazgpu.service.fleet.mirror_reader import HostCopy

NO_FLEET = "set fleet.url on this host, which is documented in docs/fleet.md"
PATHS = {
    "status": "gpus",
    "summary": "counts",
    "queue": "queue",
    "reservations": "reservations",
    "violations": "violations",
}
MOST_GPUS = 1024
TOGETHER = 2**15  # Bytes that are sent together: to send the line of each host costs more than to make it.


class FoundResponse(msgspec.Struct, kw_only=True):
    """A host with enough GPUs of the wanted model: `free` of `gpus` are available, `waiting` requests wait.

    `start` is when the GPUs are free if all reservations last as long as allowed, and all who wait get theirs
    before; null if that cannot be predicted. `now`: they are free now. `away`: why this is only the last
    known state, null if it is current; `seen_s`: its age. `profile`: these are MIG instances of it.
    """

    host: str
    models: list[str]
    gpus: int
    profile: str | None
    free: int
    waiting: int
    now: bool
    start: str | None
    away: str | None
    seen_s: int


FLEET = (
    *(
        Operation(
            method="get",
            path=f"/v1/fleet/{path}",
            about=f"All hosts of the fleet, one line per host: when it was seen, if it is away, `{name}`.",
            reply=None,
            query={"host": (TEXT, "Only this host; repeatable.")},
            problems=(403, 404, 409),
        )
        for path, name in PATHS.items()
    ),
    Operation(
        method="get",
        path="/v1/fleet/find",
        about="The hosts of the fleet that have so many GPUs; where they are free first comes first.",
        reply=list[FoundResponse],
        query={
            "gpus": (TEXT, f"How many GPUs: a number from 1 to {MOST_GPUS}, 1 by default."),
            "model": (TEXT, "A part of the name of their model."),
            "profile": (TEXT, "MIG instances of this profile; without it, GPUs that are not divided."),
        },
        problems=(403, 409),
    ),
)


class FleetRoutes:
    """The routes. Who may use them is the setting `fleet.readers`."""

    def __init__(self, settings: Settings, admin_group: int | None) -> None:
        """Store the parameters; nothing is opened."""
        self._settings, self._admin_group = settings, admin_group
        self._readers = frozenset(_gids(settings.fleet.readers))

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/fleet/find", self.find),
            Route("/v1/fleet/queue", self.view),
            Route("/v1/fleet/reservations", self.view),
            Route("/v1/fleet/status", self.view),
            Route("/v1/fleet/summary", self.view),
            Route("/v1/fleet/violations", self.view),
        ]

    async def view(self, request: Request) -> Response:
        """Return one line per host, in order: `host` (repeatable)."""
        view = PATHS[request.url.path.rpartition("/")[2]]
        copies = self.copies(request, request.query_params.getlist("host"))
        from canhazgpu.service.fleet.views import host_line  # noqa: PLC0415

        return await stream(copies, lambda copy: host_line(copy, view))

    async def find(self, request: Request) -> Response:
        """Return where GPUs are free now, or first: `gpus` (how many), `model` (a part), `profile`."""
        query = request.query_params
        count = query.get("gpus", "1")
        if not (count.isascii() and count.isdecimal() and 0 < int(count[:6]) <= MOST_GPUS):
            raise Problem(400, "bad-request", f"`gpus` is not a number from 1 to {MOST_GPUS}")
        copies = []
        try:
            async for copy in self.copies(request):
                copies.append(copy)  # noqa: PERF401 - what was read before an error counts
        except Problem:
            if not copies:
                raise
        from canhazgpu.service.fleet.search import Wanted, found  # noqa: PLC0415

        wanted = Wanted(int(count), query.get("model", ""), query.get("profile") or None)
        return respond(await anyio.to_thread.run_sync(found, copies, wanted))

    async def copies(
        self, request: Request, wanted: Sequence[str] = (), past: str = ""
    ) -> "AsyncIterator[HostCopy]":
        """Yield the copies of all hosts, or of those that are wanted, with their `past`. Raises Problem."""
        self._check(peer_of(request))
        from canhazgpu.service.fleet.mirror_reader import FleetAway, open_mirror  # noqa: PLC0415

        settings = self._settings
        try:
            async with open_mirror(settings.fleet.endpoint(), settings.host) as mirror:
                hosts = await mirror.hosts()
                unknown = [name for name in wanted if name not in hosts]
                if unknown and mirror.trouble:
                    raise mirror.trouble
                if unknown:
                    detail = f"there is no host {printable(unknown[0])} in the fleet"
                    raise Problem(404, "no-such-host", detail, "`canhazgpu status --all` shows all")
                async for copy in mirror.copies(sorted(set(wanted)) or hosts, past):
                    yield copy
        except FleetAway as away:
            detail = f"the fleet's Redis cannot be read: {away}"
            raise Problem(503, "fleet-unavailable", detail, "this host works on without it") from away

    def _check(self, peer: Peer) -> None:
        """Raise Problem if there is no fleet, or the caller may not see it."""
        if not self._settings.fleet.url:
            raise Problem(409, "no-fleet", "this host is not in a fleet", NO_FLEET)
        if not self._settings.fleet.readers or peer.is_admin(self._admin_group):
            return
        if peer.on_host is False or not peer.groups & self._readers:
            groups = ", ".join(self._settings.fleet.readers)
            raise Problem(
                403, "not-a-fleet-reader", "you may not see the other hosts", f"the groups that may: {groups}"
            )


async def stream(copies: "AsyncIterator[HostCopy]", line: "Callable[[HostCopy], bytes]") -> Response:
    """Return a response with the line of each host. Raises Problem if there is not even the first."""

    async def lines(first: "HostCopy | None") -> AsyncIterator[bytes]:
        text = b"" if first is None else line(first)
        try:
            async for copy in copies:
                text += await anyio.to_thread.run_sync(line, copy) if copy.is_large else line(copy)
                if len(text) >= TOGETHER:
                    yield text
                    text = b""
        except Problem as problem:  # The response has begun.
            text += msgspec.json.encode(problem.line()) + b"\n"
        yield text

    return StreamingResponse(lines(await anext(copies, None)), media_type="application/jsonl")


def _gids(names: list[str]) -> list[int]:
    found = []
    for name in names:
        try:
            found.append(grp.getgrnam(name).gr_gid)
        except KeyError:
            reason = f"fleet.readers: there is no group {name} on this host"
            structlog.get_logger().warning("limited", reason=reason, remedy="correct this, then restart")
    return found
