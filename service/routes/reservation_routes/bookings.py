"""The API routes of bookings: make one, list them, cancel them. The kernel says who calls."""

from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from anyio import CapacityLimiter, to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import Vendor
from canhazgpu.events.reservations import Booked, Waiting, Window
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.api.booking_bodies import (
    BookRequest,
    BookSeriesRequest,
    CancelBookingRequest,
    MaintenanceRequest,
)
from canhazgpu.service.api.context import body, operation_id, proven_peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.bookings.bookings import Bookings
from canhazgpu.service.bookings.refusals import delays, not_booked, not_cancelled
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.operation import WRITES, Operation
from canhazgpu.service.routes.reservation_routes.booking_requests import BookingRequests, windows_of
from canhazgpu.service.status.booking_forecast import could_begin, delayed_by, next_windows, with_windows
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.storage.snapshot import Snapshot

SHOWN = 3  # Other windows that a refusal names.
ATTEMPTS = 10  # Requests that join the queue make a booking look again.


class BookingResponse(Struct, kw_only=True):
    """A booking that has not begun. Times are RFC 3339 in UTC; `zone` is the time zone of the request.

    `series` is the id of all that were made together, null for one that was made alone.
    `gpus` are the GPUs that it names, null for any `count` of them; -1 stands for a GPU that is gone.
    `drain`: it is maintenance, which drains its GPUs for this reason until its end.
    `late`: since when it is known that not enough GPUs are free for it; null if it is not late.
    """

    id: str
    series: str | None
    user: str
    label: str | None
    note: str | None
    count: int
    vendor: Vendor | None
    gpus: list[int] | None
    begin: str
    end: str
    zone: str
    created: str
    begins_in_s: int
    lasts_s: int
    late: str | None
    drain: str | None


class ConcernedResponse(Struct, kw_only=True):
    """A user whom maintenance concerns: it has GPUs of their `reservation`, or their `booking` lacks some."""

    user: str
    reservation: str | None
    booking: str | None
    gpus: list[int] | None


class MaintenanceResponse(BookingResponse, kw_only=True):
    """Maintenance, and the users whom it concerns; they are notified."""

    concerned: list[ConcernedResponse]


class BookingRoutes:
    """The routes. Users cancel their own bookings, administrators anybody's."""

    def __init__(  # noqa: PLR0913, PLR0917 - each has a part in it
        self,
        settings: Settings,
        scanner: Scanner,
        bookings: Bookings,
        users: Users,
        last_known: LastKnown,
        group: int | None,
        allowances: Allowances,
    ) -> None:
        """Serve what these know; administrators are root and the members of `group`."""
        self._bookings, self._users, self._last_known, self._group = bookings, users, last_known, group
        self._requests = BookingRequests(settings, scanner, users, last_known, allowances)
        self._forecasts = CapacityLimiter(1)  # A forecast computes, and others must be answered meanwhile.

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/bookings", self.bookings),
            Route("/v1/bookings", self.book, methods=["POST"]),
            Route("/v1/bookings/series", self.book_series, methods=["POST"]),
            Route("/v1/admin/maintenance", self.maintain, methods=["POST"]),
            Route("/v1/bookings/cancel", self.cancel, methods=["POST"]),
        ]

    async def bookings(self, request: Request) -> Response:
        """Return the bookings that have not begun, earliest first."""
        del request
        seen = await self._last_known.read_state()
        known = self._last_known.bookings() if seen.stale_reason else await self._bookings.list()
        return self._last_known.respond([booking_row(one, seen) for one in known], seen)

    async def book(self, request: Request) -> Response:
        """Promise the caller GPUs for a window of time. Returns 201 with the booking."""
        params = await body(request, BookRequest)
        (row,) = await self._book(proven_peer_of(request), params, [])
        return respond(row, 201)

    async def book_series(self, request: Request) -> Response:
        """Promise the caller GPUs for several windows. Returns 201 with the bookings."""
        params = await body(request, BookSeriesRequest)
        return respond(await self._book(proven_peer_of(request), params, params.repeats), 201)

    async def _book(self, peer: Peer, params: BookRequest, repeats: list[str]) -> list[dict[str, Any]]:
        seen = await self._last_known.read_state()
        if refused := await self._last_known.refusal():
            raise refused
        wanted = await self._requests.read(peer, params, repeats, seen)
        operation = operation_id(params.operation)
        if known := await self._bookings.known(peer.uid, operation):
            return [booking_row(one, seen) for one in known]
        for _ in range(ATTEMPTS):
            windows = windows_of(wanted, seen)
            delayed, free = await self._forecast(seen, windows)
            if delayed:
                raise delays(delayed, windows[0], free)
            last = max((one.place for one in seen.waiting), default=0)
            result = await self._bookings.book(msgspec.structs.replace(wanted, seen=last), operation)
            if result.code != "newer":
                break
            seen = await self._last_known.read_state()
        if not result.booked:
            failed = windows[result.at]
            before = with_windows(seen, windows[: result.at])
            raise not_booked(result, wanted, failed, await self._instead(before, failed))
        return [booking_row(one, seen) for one in result.booked]

    async def maintain(self, request: Request) -> Response:
        """Drain GPUs for maintenance, from a time on to another. Returns 201 with whom that concerns."""
        peer, params = proven_peer_of(request), await body(request, MaintenanceRequest)
        require_admin(peer, self._group)
        seen = await self._last_known.read_state()
        if refused := await self._last_known.refusal():
            raise refused
        wanted = await self._requests.maintenance(peer, params, seen)
        result = await self._bookings.book(wanted, operation_id(params.operation))
        if not result.booked:
            raise not_booked(result, wanted, windows_of(wanted, seen)[0], ())
        concerned = [
            {"user": one.user, "reservation": one.reservation, "booking": one.booking, "gpus": one.gpus}
            for one in result.concerned
        ]
        structlog.get_logger().info(
            "admin", action="maintain", by=peer.name, uid=peer.uid, what=[result.booked[0].id]
        )
        return respond({**booking_row(result.booked[0], seen), "concerned": concerned}, 201)

    async def cancel(self, request: Request) -> Response:
        """Cancel bookings of the caller or, for administrators, of `user`; return them."""
        peer, params = proven_peer_of(request), await body(request, CancelBookingRequest)
        uid = peer.uid if params.user is None else await self._users.uid_meant(params.user)
        if uid != peer.uid:
            require_admin(peer, self._group)
        if uid is None:
            raise Problem(400, "no-such-user", "there is no such user on this host")
        reply = await self._bookings.cancel(
            uid,
            operation_id(params.operation),
            peer.name,
            ids=params.ids,
            person=peer.person if params.user is None else None,
        )
        if reply["code"] != "done":
            raise not_cancelled(reply)
        seen = await self._last_known.read_state()
        return respond([booking_row(one, seen) for one in msgspec.convert(reply["cancelled"], list[Booked])])

    async def _forecast(self, seen: Snapshot, windows: list[Window]) -> tuple[list[Waiting], Sequence[int]]:
        """Return who would wait longer, and then what is free instead of the first window."""
        if not seen.waiting or not could_begin(seen, windows):
            return [], ()  # The script says why.
        delayed = await to_thread.run_sync(delayed_by, seen, windows, limiter=self._forecasts)
        return delayed, (await self._instead(seen, windows[0]) if delayed else ())

    async def _instead(self, seen: Snapshot, window: Window) -> Sequence[int]:
        latest_ms = seen.now_ms + round(self._requests.latest * 1000)
        return await to_thread.run_sync(next_windows, seen, window, SHOWN, latest_ms, limiter=self._forecasts)


def booking_row(booking: Booked, seen: Snapshot) -> dict[str, Any]:
    """Return a booking as an API response."""
    places = {gpu.usage.uuid or f"#{gpu.usage.index}": gpu.usage.index for gpu in seen.gpus}
    return {
        "id": booking.id,
        "series": booking.series,
        "user": booking.user,
        "label": booking.label,
        "note": booking.note,
        "count": booking.count,
        "vendor": booking.vendor,
        "gpus": None if booking.cards is None else [places.get(uuid, -1) for uuid in booking.cards],
        "begin": rfc3339(booking.begin_ms),
        "end": rfc3339(booking.end_ms),
        "zone": booking.zone,
        "created": rfc3339(booking.created_ms),
        "begins_in_s": max(0, -(-(booking.begin_ms - seen.now_ms) // 1000)),
        "lasts_s": (booking.end_ms - booking.begin_ms) // 1000,
        "late": rfc3339(booking.late_ms),
        "drain": booking.drain,
    }


BOOKINGS = (
    Operation(
        method="get",
        path="/v1/bookings",
        about="The bookings that have not begun, in the order in which they begin.",
        reply=list[BookingResponse],
    ),
    Operation(
        method="post",
        path="/v1/bookings",
        about="Book GPUs for a window of time.",
        reply=BookingResponse,
        code=201,
        body=BookRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/bookings/series",
        about="Book GPUs for several windows of time: for all of them, or for none.",
        reply=list[BookingResponse],
        code=201,
        body=BookSeriesRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/admin/maintenance",
        about="Drain GPUs for maintenance, from a time on to another.",
        reply=MaintenanceResponse,
        code=201,
        body=MaintenanceRequest,
        problems=WRITES,
    ),
    Operation(
        method="post",
        path="/v1/bookings/cancel",
        about="Cancel bookings: your own or, for administrators, those of a user.",
        reply=list[BookingResponse],
        body=CancelBookingRequest,
        problems=(*WRITES, 404),
    ),
)
