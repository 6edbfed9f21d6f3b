"""Makes, lists and cancels bookings, and turns them into reservations when they begin.

Every change is one script that appends its events. The loop sleeps until the next booking begins. While one
is late, it also looks after every scan and every change of a reservation.
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from canhazgpu.events.gpu import Vendor
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Booked, Concerned, Count, Record
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.lifetime import Lifetime
from canhazgpu.service.storage import records

BOOK, CANCEL, BEGIN = (Script("canhazgpu.service.bookings", verb) for verb in ("book", "cancel", "begin"))
SCAN_PATIENCE = 10.0  # Seconds to wait for a scan before a booking begins.
AGAIN = 0.2  # Seconds until a change that failed because Redis was down is retried.


class BookingRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parameters of `book`: `gpus`, or any `count` of GPUs of a vendor, from `begin_ms` to `end_ms`.

    `more`: the begins of further windows of the same length. All of them are promised, or none. `seen` is the
    place of the last request in the queue that was considered. `uuids` are those of the `gpus` that were
    named by UUID: the script follows them if they are renumbered. `limit`: the maximum number of GPUs that
    are booked for this user at a time, `most_hours` that of the GPU-hours of all bookings, and
    `most_bookings` that of bookings. `drain`: it is maintenance, and this is the reason.
    """

    user: str
    uid: int
    begin_ms: int
    end_ms: int
    more: tuple[int, ...] = ()
    zone: str = ""
    count: Count | None = None
    vendor: Vendor | None = None
    gpus: tuple[int, ...] | None = None
    label: str | None = None
    note: str | None = None
    login_uid: int | None = None
    uuids: dict[int, str] | None = None
    seen: int | None = None
    limit: int | None = None
    most_hours: int | None = None
    most_bookings: int | None = None
    drain: str | None = None


class BookingResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `book`.

    `code` is done, refused, never, limit, hours, many, full, or newer (the queue has grown). `at`: the index
    of the window that is not possible.
    `gpus`: how many the user holds or has booked at that time; `hours`: the GPU-hours with this booking.
    """

    code: str
    booked: tuple[Booked, ...] = ()
    at: int = 0
    missing: tuple[int, ...] = ()
    managed: int = 0
    need: int = 0
    gpus: int = 0
    hours: float = 0
    concerned: tuple[Concerned, ...] = ()


class Bookings:
    """The bookings of one host. All methods raise StoreDown if the outcome is unknown."""

    def __init__(self, store: Store, allocator: Allocator, remind: float = 0) -> None:
        """Use the host of `store`; nothing is read yet. `remind`: seconds before a begin, 0 for never."""
        self._store, self._allocator, self._remind_ms = store, allocator, round(remind * 1000)
        self._changed = anyio.Event()
        self._waiting = False  # Whether a booking is late.
        self._next = (
            math.inf
        )  # When to look again, on the clock, which may be put forward while the loop sleeps.
        # Called with each reservation that a booking has become.
        self.begun: Callable[[Record], None] = lambda _: None
        # Returns when a scan has ended that began after the call: what happened before a begin must be known.
        self.scanned: Callable[[], Awaitable[bool]] = _not_scanned

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Begin bookings at their time, until cancelled."""
        task_status.started()
        is_due = True  # Whether a booking may begin now.
        while True:
            if is_due:
                await self.scanned()
            self._changed, released = anyio.Event(), self._allocator.listen()
            left = AGAIN
            try:
                left = await self.begin()
            except StoreDown as down:
                self._store.report_down(down)
            with anyio.move_on_after(left) as pause:
                async with anyio.create_task_group() as tasks:
                    for event in (self._changed, *((released,) if self._waiting else ())):
                        tasks.start_soon(_cancel_when_set, event, tasks.cancel_scope)
            self._allocator.unlisten(released)
            is_due = pause.cancelled_caught

    def check(self) -> None:
        """Look again for what is late or due, because a scan has ended."""
        if self._waiting or time.time() >= self._next:
            self._changed.set()

    def look(self) -> None:
        """Look again, because the bookings in Redis may have changed."""
        self._changed.set()

    async def book(self, request: BookingRequest, operation: str) -> BookingResult:
        """Promise GPUs for a window, or return why that is not possible."""
        reply = await self._change(BOOK, request.uid, operation, msgspec.json.encode(request))
        return msgspec.convert(reply, BookingResult)

    async def known(self, uid: int, operation: str) -> tuple[Booked, ...]:
        """Return the bookings that an earlier call with this operation has made."""
        reply = await self._allocator.known_reply(BOOK, uid, operation)
        return msgspec.convert(reply, BookingResult).booked if reply else ()

    async def cancel(
        self, uid: int, operation: str, by: str, *, ids: Sequence[str], person: int | None = None
    ) -> dict[str, Any]:
        """End bookings of `uid` before they begin; return the script's reply."""
        order = {"uid": uid, "by": by, "ids": list(ids), **({} if person is None else {"person": person})}
        return await self._change(CANCEL, uid, operation, msgspec.json.encode(order))

    async def begin(self) -> float:
        """Begin the bookings whose time has come; return the seconds until the next look."""
        reply = await self._allocator.run(
            BEGIN, 0, "begin", [str(self._remind_ms)], [self._store.keys.bookings]
        )
        if reply["begun"] or reply["granted"]:
            self._allocator.note()
            self._allocator.wake()
        for record in msgspec.convert(reply["begun"], list[Record]):
            self.begun(record)
        self._waiting = bool(reply["waiting"])
        left = (reply["next_ms"] - reply["now_ms"]) / 1000 if reply["next_ms"] else math.inf
        self._next = time.time() + left
        return left

    async def list(self) -> list[Booked]:
        """Return the bookings that have not begun, earliest first."""
        rows: Any = await self._store.ask(self._store.redis.hgetall(self._store.keys.bookings))
        return records.bookings(rows)

    async def _change(self, script: Script, uid: int, operation: str, request: bytes) -> dict[str, Any]:
        reply = await self._allocator.change(script, uid, operation, request, [self._store.keys.bookings])
        if reply["code"] == "done":
            self._changed.set()
        return reply


def open_bookings(
    store: Store, allocator: Allocator, scanner: Scanner, liveness: Lifetime, remind: float
) -> Bookings:
    """Return the bookings of a host, connected to the parts that scan GPUs and end reservations."""
    bookings = Bookings(store, allocator, remind)
    bookings.begun, bookings.scanned = liveness.plan_expiry, partial(scanner.wait_for_new_scan, SCAN_PATIENCE)
    scanner.checks.append(bookings.check)
    return bookings


async def _not_scanned() -> bool:
    return False


async def _cancel_when_set(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
