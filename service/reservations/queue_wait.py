"""A request in the queue that reports its position and result while its client is connected."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
import msgspec

from canhazgpu.events.redis_client.store import StoreDown
from canhazgpu.events.reservations import Record
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.handover import Handover
from canhazgpu.service.reservations.refusals import refusal
from canhazgpu.service.reservations.script_replies import Reserved
from canhazgpu.service.status.shared_queue import SharedQueue

JOIN_TIME = 4.0  # Seconds to wait for a Redis that is down, for clients that are not in the queue yet.
SIGN_OF_LIFE = 5.0  # Seconds between looks at the queue if nothing happens,
RECENT = 1.0  # and how old that look may be: who waits at the same time shares it.
CHECK_AGAIN = 60.0  # Seconds until a request that waits as before is checked by the script nevertheless.

Start = Callable[[Record, Mapping[str, str]], dict[str, Any]]


class QueuePlace:
    """A request in the queue, for as long as its client is connected."""

    def __init__(  # noqa: PLR0913 - all of them describe the request
        self,
        queue: SharedQueue,
        allocator: Allocator,
        handover: Handover,
        request: AllocationRequest,
        operation: str,
        *,
        start: Start,
        refresh: Callable[[AllocationRequest], AllocationRequest],
        cancelled: Callable[[str, str], Awaitable[Problem | None]],
    ) -> None:
        """Prepare to wait for `request`; `start` makes the response from its reservation and cards.

        `refresh` updates the user's name and limit in the request. `cancelled` tells by id and user why a
        request was cancelled.
        """
        self._store, self._queue = queue.store, queue
        self._allocator, self._handover = allocator, handover
        self._request, self._operation, self._start = request, operation, start
        self._refresh, self._cancelled = refresh, cancelled
        self._names = [(request.uid, operation)]
        if request.id is not None:
            self._names.append((request.uid, request.id))
        self._id: str | None = None  # The script has checked that it belongs to this user.
        self._checked = 0.0  # When the script last did, on the loop's clock.
        self._finished = False

    async def once(self) -> Reserved:
        """Request without waiting. Raises StoreDown; a reservation granted in that case is released."""
        self._handover.register(self, *self._names)
        try:
            return await self._check()
        except StoreDown:
            await self.disconnect()
            raise
        finally:
            if not self._finished:
                self._finish()

    async def lines(self, patience: float | None) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the position of the request whenever it changes, and then the result."""
        self._handover.register(self, *self._names)
        last_reported: tuple[Any, ...] = ()
        began = anyio.current_time()
        while not self._allocator.closing:
            event = self._allocator.listen()
            row = await self._row_as_before()
            reserved = await self._check_shielded() if row is None else None
            if row is None and reserved is None and self._cannot_join(began):
                down = self._store.trouble or StoreDown("Redis does not answer")
                await self.disconnect()
                yield Problem(503, "store-unavailable", *self._store.explain(down)).line()
                return
            if reserved is not None and reserved.reservation is not None:
                self._finish()
                yield self._start(reserved.reservation, reserved.cards)
                return
            if reserved is not None and reserved.code != "queued":
                self._finish()
                yield (await self._refusal(reserved)).line()
                return
            if reserved is not None:
                row = await self._row(reserved.id)
            if row is None:
                yield None
            else:
                now = (row.get("position"), row.get("reason"), row.get("expected"))
                yield {"state": "queued", **row} if row and now != last_reported else None
                last_reported = now
            left = SIGN_OF_LIFE
            if patience is not None:
                left = min(left, began + patience - anyio.current_time())
            if left <= 0 and await self._give_up():
                yield Problem(409, "timed-out", "no GPUs became free in time", "wait longer").line()
                return
            with anyio.move_on_after(left):
                await event.wait()
            self._allocator.unlisten(event)

    async def _refusal(self, reserved: Reserved) -> Problem:
        known = await self._cancelled(reserved.id, self._request.user) if reserved.code == "gone" else None
        return known or refusal(reserved, self._request)

    def _cannot_join(self, began: float) -> bool:
        """Whether Redis has been down for so long that the queue cannot be joined now."""
        return self._id is None and self._request.id is None and anyio.current_time() - began > JOIN_TIME

    async def _check_shielded(self) -> Reserved | None:
        try:
            with anyio.CancelScope(
                shield=True
            ):  # A client that leaves now must not leave a reservation behind.
                reserved = await self._check()
        except StoreDown as down:
            self._store.report_down(down)
            return None
        return reserved

    async def _check(self) -> Reserved:
        # By its id once there is one: Redis may have lost which operation it came by.
        if self._id:
            self._request = msgspec.structs.replace(self._refresh(self._request), id=self._id)
        checked = anyio.current_time()
        reserved = await self._allocator.reserve(self._request, self._operation)
        self._checked = checked
        if reserved.id and (reserved.reservation is not None or reserved.code == "queued"):
            self._id, name = reserved.id, (self._request.uid, reserved.id)
            if name not in self._names and self._handover.is_current(self, self._names):
                self._names.append(name)
                self._handover.register(self, name)
        return reserved

    async def _give_up(self) -> bool:
        """Leave the queue; return False if it was just granted."""
        left: bool | None = None
        if self._id is not None:
            with suppress(StoreDown):
                left = await self._allocator.leave([self._id], "timed-out")
        if left:
            self._finish()
        elif left is None:
            await self.disconnect()
        return left is not False

    def _finish(self) -> None:
        self._finished = True
        self._handover.unregister(self, self._names)

    async def _row(self, name: str) -> dict[str, Any]:
        try:
            return (await self._queue.look(anyio.current_time())).row(name)
        except StoreDown:
            return {}

    async def _row_as_before(self) -> dict[str, Any] | None:
        """Return the row of the request, or None if its script must check it.

        The scripts that free a GPU serve the queue. So a request that still waits was not granted.
        """
        now = anyio.current_time()
        if self._id is None or now >= self._checked + CHECK_AGAIN:
            return None
        try:
            view = await self._queue.look(now - RECENT)
        except StoreDown:
            return None
        waiting = view.waiting.get(self._id)
        if waiting is None or not waiting.attached or waiting.limit != self._refresh(self._request).limit:
            return None
        return view.row(self._id)

    async def disconnect(self) -> None:
        """Leave the queue; a reservation that the client has already received is kept."""
        if not (self._allocator.closing or self._finished):
            self._finished = True
            self._handover.withdraw(self, self._names, self._find)

    async def _find(self) -> str | None:
        """Return the id of the request, even if the answer that contained it was lost. Raises StoreDown."""
        if self._id is None:
            await self._check()
        return self._id
