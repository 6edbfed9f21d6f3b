"""The API route of the report: GPU-hours by user, GPU, day, hour or host."""

import time
from collections.abc import Sequence
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.sanitize import NAME_LIMIT, printable
from canhazgpu.service.api.context import peer_of, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.report.report import BY, Question, report
from canhazgpu.service.storage.policy import AllocationPolicy
from canhazgpu.service.violations.filters import filters

LOCAL = "local"
PERIOD = ("since", "until")


class ReportRoutes:
    """The route. Everybody may see the hours of everybody, as in the status."""

    def __init__(self, settings: Settings, store: Store, users: Users) -> None:
        """Serve what `store` keeps."""
        self._settings, self._store, self._users = settings, store, users
        self._stale_ms = AllocationPolicy.of(settings).stale_ms

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/report", self.report)]

    async def report(self, request: Request) -> Response:
        """Return GPU-hours: `since`, `until` (as for violations), `by`, `zone`, `user`, `own=1`."""
        question = question_of(request, self._settings, BY)
        uid = None
        if request.query_params.get("own") == "1":
            uid = peer_of(request).uid
        elif question.user is not None:
            uid = await self._users.uid_meant(request.query_params["user"])
        question = msgspec.structs.replace(question, stale_ms=self._stale_ms, name=self._users.name, uid=uid)
        return respond(await report(self._store, question))


def question_of(request: Request, settings: Settings, kinds: Sequence[str]) -> Question:
    """Return what a request asks for, in rows of these kinds. Raises Problem."""
    query, now_ms = request.query_params, round(time.time() * 1000)
    try:
        period = filters({name: query[name] for name in PERIOD if name in query}, now_ms)
        zone = _zone(query.get("zone", "UTC"))
    except ValueError as error:
        raise Problem(400, "bad-request", str(error)) from error
    by = query.get("by", "user")
    if by not in kinds:
        detail = f"by: there is no '{printable(by, 20)}'; use one of {', '.join(kinds)}"
        raise Problem(400, "bad-request", detail)
    user = peer_of(request).name if query.get("own") == "1" else query.get("user")
    return Question(
        host=settings.host,
        since_ms=max(period.since_ms, now_ms - round(settings.report.keep * 1000)),
        until_ms=now_ms if period.until_ms is None else period.until_ms,
        by=by,
        zone=zone,
        user=None if user is None else printable(user, NAME_LIMIT),
    )


def _zone(name: str) -> tzinfo | None:
    """Return a time zone; None for the one of this host."""
    if name in {LOCAL, "UTC"}:
        return None if name == LOCAL else UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"zone: there is no time zone '{printable(name, 40)}'") from None
