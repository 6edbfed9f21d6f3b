"""The API routes of violations: the list, and the timeline of one violation."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.api.context import peer_of, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import with_index
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.violations import history
from canhazgpu.service.violations.filters import filters
from canhazgpu.service.violations.responses import TimelineResponse
from canhazgpu.service.violations.search import find, no_such_violation
from canhazgpu.service.violations.timeline import Timeline


class ViolationRoutes:
    """The routes. Everybody can use them; email addresses are redacted by `service/api/redaction.py`."""

    def __init__(self, store: Store, scanner: Scanner, group: int | None, users: Users) -> None:
        """Serve what `store` keeps; administrators are root and the members of `group`."""
        self._store, self._scanner = store, scanner
        self._users = users
        self._group = group

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/violations", self.violations),
            Route("/v1/violations/{violation}", self.violation),
        ]

    async def violations(self, request: Request) -> Response:
        """Return the violations that match the filters of `service/violations/filters.py`."""
        now_ms = round(time.time() * 1000)
        words = with_index(request.query_params, self._scanner.known)
        try:
            wanted = filters(words, now_ms)
        except ValueError as error:
            raise Problem(400, "bad-request", str(error)) from error
        if wanted.user is not None:
            uid = await self._users.uid_meant(wanted.user)
            wanted = msgspec.structs.replace(wanted, uid=uid)
        return respond(await history.violations(self._store, wanted, now_ms))

    async def violation(self, request: Request) -> Response:
        """Return one violation and its timeline; the start of its id is enough if it is unique."""
        name, start = await find(self._store, request.path_params["violation"])
        now_ms = round(time.time() * 1000)
        viewer = Viewer.of(peer_of(request), self._group)
        opened = (await history.open_by_id(self._store)).get(name)
        timeline = Timeline(self._store, name, viewer, now_ms)
        try:
            await timeline.read(start, opened)
        except LookupError:
            raise no_such_violation(name) from None
        head = history.row(timeline.violation, timeline.verdict)
        return respond(TimelineResponse(violation=head, moments=timeline.moments, left_out=timeline.left_out))
