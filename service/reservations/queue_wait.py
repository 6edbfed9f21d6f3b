"""A request in the queue that reports its position and result while its client is connected."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
import msgspec

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Record
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator, Reserved
from canhazgpu.service.reservations.handover import Handover
from canhazgpu.service.reservations.refusals import refusal
from canhazgpu.service.status.queue_status import queue
from canhazgpu.service.storage.snapshot import snapshot

JOIN_TIME = 4.0  # Seconds to wait for a Redis that is down, for clients that are not in the queue yet.
SIGN_OF_LIFE = 5.0  # Seconds between checks of the queue if nothing happens.

Start = Callable[[Record, Mapping[str, str]], dict[str, Any]]


class QueuePlace:
    """A request in the queue, for as long as its client is connected."""

    def __init__(  # noqa: PLR0913 - all of them describe the request
        self,
        store: Store,
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
        self._store, self._allocator, self._handover = store, allocator, handover
        self._request, self._operation, self._start = request, operation, start
        self._refresh, self._cancelled = refresh, cancelled
        self._names = [(request.uid, operation)]
        if request.id is not None:
            self._names.append((request.uid, request.id))
        self._id: str | None = None  # The script has checked that it belongs to this user.
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
            reserved = await self._check_shielded()
            if reserved is None and self._cannot_join(began):
                down = self._store.trouble or StoreDown("Redis does not answer")
                await self.disconnect()
                yield Problem(503, "store-unavailable", *self._store.explain(down)).line()
                return
            if reserved is None:
                yield None
            elif reserved.reservation is not None:
                self._finish()
                yield self._start(reserved.reservation, reserved.cards)
                return
            elif reserved.code != "queued":
                self._finish()
                yield (await self._refusal(reserved)).line()
                return
            else:
                row = await self._row(reserved.id)
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
        reserved = await self._allocator.reserve(self._request, self._operation)
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
            rows = queue(await snapshot(self._store))
        except StoreDown:
            return {}
        return next((row for row in rows if row["id"] == name), {})

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
