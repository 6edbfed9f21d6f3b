"""The API routes of the past of the fleet: ended reservations and GPU-hours of all hosts."""

import time
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.service.api.context import peer_of, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.report.responses import FleetReportResponse, ReportResponse
from canhazgpu.service.reservations.ended import EndedFilter
from canhazgpu.service.routes.fleet import FleetRoutes, stream
from canhazgpu.service.routes.operation import FLAG, TEXT, Operation
from canhazgpu.service.routes.report import question_of
from canhazgpu.service.violations.filters import filters

if TYPE_CHECKING:
    from canhazgpu.service.fleet.mirror_reader import HostCopy

BY = ("user", "day", "hour", "host")
LONGEST_MS = 31 * 86_400_000
MOST_ENDED = 150
NAMES = ("since", "until", "user")
FLEET_PAST = (
    Operation(
        method="get",
        path="/v1/fleet/ended",
        about="The newest ended reservations of all hosts of the fleet, one line per host: `ended`.",
        reply=None,
        query={
            "since": (TEXT, "Those that ended then or later: 7d (the default), 2026-11-25."),
            "until": (TEXT, "Those that ended by this time; same syntax as since."),
            "user": (TEXT, "Only those of this user."),
            "own": (FLAG, "1: only your own."),
            "n": (TEXT, f"The newest so many of each host, at most {MOST_ENDED}."),
            "host": (TEXT, "Only this host; repeatable."),
        },
        problems=(403, 404, 409),
    ),
    Operation(
        method="get",
        path="/v1/fleet/report",
        about="GPU-hours of all hosts of the fleet, of whole hours in the last 31 days.",
        reply=FleetReportResponse,
        query={
            "since": (TEXT, "Start of the period: 7d (ago, the default), 2026-11-25, 2026-11-25T14:30:00Z."),
            "until": (TEXT, "End of the period, now by default; same syntax as since."),
            "by": ({"enum": list(BY)}, "What each row stands for."),
            "user": (TEXT, "Only the hours of this user."),
            "own": (FLAG, "1: only your own."),
            "zone": (TEXT, "Time zone of days and of the week: UTC, local or a name; UTC by default."),
        },
        problems=(403, 409),
    ),
)


class FleetPastRoutes:
    """The routes. Who may use them is the setting `fleet.readers`."""

    def __init__(self, settings: Settings, fleet: FleetRoutes) -> None:
        """Read what `fleet` reads."""
        self._settings, self._fleet = settings, fleet

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/fleet/ended", self.ended),
            Route("/v1/fleet/report", self.report),
        ]

    async def ended(self, request: Request) -> Response:
        """Return one line per host: `since`, `until`, `user`, `own=1`, `n`, `host` (repeatable)."""
        query, number = request.query_params, request.query_params.get("n", str(MOST_ENDED))
        try:
            found = filters({name: query[name] for name in NAMES if name in query}, round(time.time() * 1000))
        except ValueError as error:
            raise Problem(400, "bad-request", str(error)) from error
        if not (number.isascii() and number.isdecimal() and int(number[:6]) > 0):
            raise Problem(400, "bad-request", "`n` is not a number from 1 on")
        most = min(int(number[:6]), MOST_ENDED)
        # By name alone: the same uid may be somebody else on another host.
        user = peer_of(request).name if query.get("own") == "1" else found.user
        wanted = EndedFilter(since_ms=found.since_ms, until_ms=found.until_ms, user=user)
        copies = self._fleet.copies(request, query.getlist("host"), "fleet_ended")
        from canhazgpu.service.fleet.past import ended_rows  # noqa: PLC0415
        from canhazgpu.service.fleet.views import host_line  # noqa: PLC0415

        return await stream(
            copies, lambda copy: host_line(copy, "ended", lambda one: ended_rows(one, wanted, most))
        )

    async def report(self, request: Request) -> Response:
        """Return GPU-hours: `since`, `until` (as for violations), `by`, `zone`, `user`, `own=1`."""
        question = question_of(request, self._settings, BY)
        oldest = round(time.time() * 1000) - LONGEST_MS
        since_ms = max(question.since_ms, oldest)
        asked = msgspec.structs.replace(question, since_ms=since_ms, whole_hours=True)
        copies = self._fleet.copies(request, past="fleet_hours")
        from canhazgpu.service.fleet.past import host_report, merged  # noqa: PLC0415

        async def of(copy: "HostCopy") -> "tuple[str, ReportResponse | None]":
            return copy.host, await anyio.to_thread.run_sync(host_report, copy, asked)

        return respond(merged([await of(copy) async for copy in copies], asked))
