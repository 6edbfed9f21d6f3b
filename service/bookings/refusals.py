"""The error messages for bookings that cannot be made or cancelled: the reason, and what to do."""

from collections.abc import Sequence
from typing import Any

from canhazgpu.events.gpu import VENDORS
from canhazgpu.events.reservations import Waiting, Window
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_ranges import spell_ranges
from canhazgpu.events.timestamps import local_time
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.bookings.bookings import BookingRequest, BookingResult
from canhazgpu.service.status.gpu_status import rfc3339

LISTED = "`canhazgpu bookings` lists them"
STATUS = "`canhazgpu status` lists them"
WAITING = "run 'canhazgpu queue' for details"
MOMENT = "%Y-%m-%d %H:%M"


def not_booked(
    result: BookingResult, request: BookingRequest, window: Window, free: Sequence[int]
) -> Problem:
    """Return why a booking was refused; `free` are the moments at which it could begin instead."""
    if result.missing:
        detail = f"there is no GPU {spell_ranges(result.missing)} on this host, or it is not managed"
        return Problem(400, "no-such-gpu", detail, STATUS)
    kind = f"{VENDORS[request.vendor]} " if request.vendor else ""
    if result.code == "never":
        detail = f"{result.need} {kind}GPUs were requested, but this host has {result.managed}"
        return Problem(400, "too-many", detail, STATUS)
    if problem := _beyond_limits(result, request):
        return problem
    what = f"GPU {spell_ranges(request.gpus)}" if request.gpus else f"{window.count} {kind}GPU(s)"
    detail = f"{what} cannot be promised from {_moment(window.begin_ms)} to {_moment(window.end_ms)}"
    return Problem(409, "not-free", detail, _instead(free))


def _beyond_limits(result: BookingResult, request: BookingRequest) -> Problem | None:
    if result.code == "limit":
        detail = f"you can hold {request.limit} GPU(s) at a time, and have {result.gpus} at that time"
        return Problem(409, "limit", detail, "cancel a booking, or book another time")
    if result.code == "hours":
        detail = f"your bookings would have {result.hours:.0f} GPU-hours; your limit is {request.most_hours}"
        return Problem(403, "too-many-hours", detail, "book less, or cancel a booking")
    if result.code == "many":
        detail = f"you have {result.need} open bookings, which is your limit"
        return Problem(409, "too-many-bookings", detail, f"cancel one: {LISTED}")
    if result.code == "full":
        detail = f"this host has {result.need} open bookings, which is the maximum"
        return Problem(409, "too-many-bookings", detail, LISTED)
    return None


def delays(waiting: Sequence[Waiting], window: Window, free: Sequence[int]) -> Problem:
    """Return the problem that requests which came first would wait longer."""
    users = ", ".join(sorted({printable(one.user) for one in waiting}))
    detail = f"a booking at {_moment(window.begin_ms)} would delay waiting requests of {users} - {WAITING}"
    return Problem(409, "delays-others", detail, _instead(free))


def _instead(free: Sequence[int]) -> str:
    if not free:
        return "no later time can be promised either: reservations without an end keep their GPUs"
    return f"free for as long from: {', '.join(map(_moment, free))}"


def _moment(ms: int) -> str:
    return local_time(rfc3339(ms), MOMENT)


def not_cancelled(reply: dict[str, Any]) -> Problem:
    """Return the problem that a booking cannot be cancelled."""
    name = printable(reply["id"])
    if reply["code"] == "missing":
        return Problem(404, "no-such-booking", f"there is no booking {name}", LISTED)
    if reply["code"] == "not-yours":
        detail = f"{name} belongs to {', '.join(sorted(set(reply['users'])))}"
        return Problem(403, "not-yours", detail, "you can cancel only your own; administrators add --user")
    return Problem(409, "several", f"{len(reply['ids'])} bookings begin with {name}", LISTED)
