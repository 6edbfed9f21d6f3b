"""The API routes of bookings: make one, list them, cancel them. The kernel says who calls."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from anyio import CapacityLimiter, to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import spell_length
from canhazgpu.events.gpu import Vendor
from canhazgpu.events.reservations import Booked, Waiting, Window
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.api.context import body, operation_id, proven_peer_of, require_admin, respond
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import indices, uuids
from canhazgpu.service.api.requests import (
    BookRequest,
    CancelBookingRequest,
    duration_of,
    label_of,
)
from canhazgpu.service.api.vendor_choice import all_gpus, vendor_of
from canhazgpu.service.bookings.bookings import BookingRequest, Bookings
from canhazgpu.service.bookings.refusals import delays, not_booked, not_cancelled
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.routes.operation import WRITES, Operation
from canhazgpu.service.status.booking_forecast import could_begin, delayed_by, next_windows
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.storage.snapshot import Snapshot

SHORTEST = 60.0  # Seconds; times of bookings are shown in minutes.
LATE = 60.0  # Seconds for which a request may have been on its way: it begins now.
SHOWN = 3  # Other windows that a refusal names.
ATTEMPTS = 10  # Requests that join the queue make a booking look again.


class BookingResponse(Struct, kw_only=True):
    """A booking that has not begun. Times are RFC 3339 in UTC; `zone` is the time zone of the request.

    `gpus` are the GPUs that it names, null for any `count` of them; -1 stands for a GPU that is gone.
    `late`: since when it is known that not enough GPUs are free for it; null if it is not late.
    """

    id: str
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
        self._settings, self._scanner, self._bookings = settings, scanner, bookings
        self._users, self._last_known, self._group = users, last_known, group
        self._allowances = allowances
        self._forecasts = CapacityLimiter(1)  # A forecast computes, and others must be answered meanwhile.

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/bookings", self.bookings),
            Route("/v1/bookings", self.book, methods=["POST"]),
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
        peer, params = proven_peer_of(request), await body(request, BookRequest)
        seen = await self._last_known.read_state()
        if refused := await self._last_known.refusal():
            raise refused
        wanted = await self._request(peer, params, seen)
        operation = operation_id(params.operation)
        if known := await self._bookings.known(peer.uid, operation):
            return respond(booking_row(known, seen), 201)
        for _ in range(ATTEMPTS):
            window = _window(wanted, seen)
            delayed, free = await self._forecast(seen, window)
            if delayed:
                raise delays(delayed, window, free)
            last = max((one.place for one in seen.waiting), default=0)
            result = await self._bookings.book(msgspec.structs.replace(wanted, seen=last), operation)
            if result.code != "newer":
                break
            seen = await self._last_known.read_state()
        if result.booking is None:
            raise not_booked(result, wanted, window, free or await self._instead(seen, window))
        return respond(booking_row(result.booking, seen), 201)

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

    async def _request(self, peer: Peer, params: BookRequest, seen: Snapshot) -> BookingRequest:
        """Return what the allocator is asked for, within the limits of the user. Raises Problem."""
        may, known = self._allowances.of(peer.name), self._scanner.known
        if params.gpus == "all":
            every = all_gpus(params.vendor, await self._last_known.managed(), known)
            params = msgspec.structs.replace(params, gpus=every)
        named = None if params.gpus == "all" else params.gpus
        gpus = indices(named, known)
        if gpus is not None and params.count not in (None, len(gpus)):
            raise Problem(400, "bad-request", f"`count` is {params.count}, but {len(gpus)} GPUs are named")
        need = len(gpus) if gpus else params.count or 1
        if may.most is not None and need > may.most:  # What they hold elsewhere now is not held then.
            raise Problem(409, "limit", f"you can hold {may.most} GPU(s) at a time, not {need}")
        lasts = duration_of(params.duration, self._settings.reserve.duration, may.longest, "duration") or 0
        longest = self._settings.bookings.max_duration
        if longest and lasts > longest:
            detail = f"a booking can be {spell_length(longest)} long, not {spell_length(lasts)}"
            raise Problem(403, "too-long", detail, "book less, or several bookings")
        if lasts < SHORTEST:
            raise Problem(400, "bad-request", "duration: a booking is at least a minute long")
        begin_ms = self._begin(params.begin, seen.now_ms)
        admin = peer.uid == 0 and peer.is_admin(None)
        return BookingRequest(
            user=peer.name,
            uid=peer.uid,
            login_uid=peer.login_uid,
            begin_ms=begin_ms,
            end_ms=begin_ms + round(lasts * 1000),
            zone=params.zone,
            count=None if gpus else need,
            vendor=vendor_of(params.vendor, gpus, known, self._settings.allocation.vendor),
            gpus=gpus,
            label=await label_of(params.label, peer, self._users, admin=admin),
            note=params.note,
            uuids=uuids(named, known) if gpus else None,
            limit=may.most,
            most_hours=self._settings.bookings.max_gpu_hours or None,
            most_bookings=self._settings.bookings.max_per_user or None,
        )

    def _begin(self, text: str, now_ms: int) -> int:
        try:
            found = datetime.fromisoformat(text)
            begin_ms = round(found.timestamp() * 1000) if found.tzinfo else None
        except (ValueError, OverflowError) as error:
            raise Problem(400, "bad-request", f"begin: {error}") from error
        if begin_ms is None:
            raise Problem(400, "bad-request", "begin: the time zone is missing, as in 2026-12-01T09:00Z")
        if begin_ms < now_ms - LATE * 1000:
            raise Problem(400, "bad-request", "begin: this time has passed")
        longest = self._settings.bookings.max_ahead
        if not longest:
            raise Problem(
                403, "no-bookings", "bookings are disabled on this host", "leave out --begin, or add --wait"
            )
        if begin_ms > now_ms + longest * 1000:
            detail = f"bookings can begin at most {spell_length(longest)} from now"
            raise Problem(403, "too-far-ahead", detail, "book it later, or ask an administrator")
        return max(begin_ms, now_ms)

    async def _forecast(self, seen: Snapshot, window: Window) -> tuple[list[Waiting], Sequence[int]]:
        """Return who would wait longer, and then what is free instead."""
        if not seen.waiting or not could_begin(seen, window):
            return [], ()  # The script says why.
        delayed = await to_thread.run_sync(delayed_by, seen, window, limiter=self._forecasts)
        return delayed, (await self._instead(seen, window) if delayed else ())

    async def _instead(self, seen: Snapshot, window: Window) -> Sequence[int]:
        latest_ms = seen.now_ms + round(self._settings.bookings.max_ahead * 1000)
        return await to_thread.run_sync(next_windows, seen, window, SHOWN, latest_ms, limiter=self._forecasts)


def _window(wanted: BookingRequest, seen: Snapshot) -> Window:
    cards = {gpu.usage.index: gpu.usage.uuid or f"#{gpu.usage.index}" for gpu in seen.gpus}
    return Window(
        id="",
        uid=wanted.uid,
        begin_ms=wanted.begin_ms,
        end_ms=wanted.end_ms,
        count=len(wanted.gpus) if wanted.gpus else wanted.count or 1,
        vendor=wanted.vendor,
        cards=tuple(cards.get(index, f"#{index}") for index in wanted.gpus) if wanted.gpus else None,
    )


def booking_row(booking: Booked, seen: Snapshot) -> dict[str, Any]:
    """Return a booking as an API response."""
    places = {gpu.usage.uuid or f"#{gpu.usage.index}": gpu.usage.index for gpu in seen.gpus}
    return {
        "id": booking.id,
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
        path="/v1/bookings/cancel",
        about="Cancel bookings: your own or, for administrators, those of a user.",
        reply=list[BookingResponse],
        body=CancelBookingRequest,
        problems=(*WRITES, 404),
    ),
)
