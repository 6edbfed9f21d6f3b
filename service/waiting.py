"""A place in the queue for as long as its owner listens: where it stands, and what becomes of it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import structlog

from canhazgpu.events.reservations import Record
from canhazgpu.events.store import Store, StoreDown
from canhazgpu.service.allocator import Allocator, Ask, Reserved
from canhazgpu.service.problems import Problem
from canhazgpu.service.queue_view import queue
from canhazgpu.service.refusals import refusal
from canhazgpu.service.snapshot import snapshot

SIGN_OF_LIFE = 5.0  # Seconds between two looks at the queue when nothing happens.

Begin = Callable[[Record], dict[str, Any]]


class Place:
    """A place in the queue, for as long as its owner listens."""

    def __init__(self, store: Store, allocator: Allocator, ask: Ask, operation: str, begin: Begin) -> None:
        """Stand for `ask`; `begin` makes of its reservation what the owner is told."""
        self._store, self._allocator = store, allocator
        self._ask, self._operation, self._begin = ask, operation, begin
        self._id: str | None = None
        self._granted = False

    async def lines(self, patience: float | None) -> AsyncIterator[dict[str, Any] | None]:
        """Yield where the request stands, each time it changes, and what became of it."""
        said: tuple[Any, ...] = ()
        began = anyio.current_time()
        while not self._allocator.closing:
            event = self._allocator.listen()
            reserved = await self._look()
            if reserved is None:
                yield None
            elif reserved.reservation is not None:
                self._granted = True
                yield self._begin(reserved.reservation)
                return
            elif reserved.code != "queued":
                yield refusal(reserved, self._ask).line()
                return
            else:
                row = await self._row(reserved.id)
                now = (row.get("position"), row.get("reason"), row.get("expected"))
                yield {"state": "queued", **row} if row and now != said else None
                said = now
            left = SIGN_OF_LIFE
            if patience is not None:
                left = min(left, began + patience - anyio.current_time())
            if left <= 0:
                await self.gone("timed-out")
                yield Problem(409, "timed-out", "no GPUs became free in time", "wait longer").line()
                return
            with anyio.move_on_after(left):
                await event.wait()
            self._allocator.unlisten(event)

    async def _look(self) -> Reserved | None:
        try:
            with anyio.CancelScope(shield=True):  # Whoever leaves now must not leave a reservation behind.
                reserved = await self._allocator.reserve(self._ask, self._operation)
        except StoreDown as down:
            self._store.lost(down)
            return None
        self._id = reserved.id or self._id
        return reserved

    async def _row(self, name: str) -> dict[str, Any]:
        try:
            rows = queue(await snapshot(self._store))
        except StoreDown:
            return {}
        return next((row for row in rows if row["id"] == name), {})

    async def gone(self, why: str = "cancelled") -> None:
        """Give up the place; what was granted is in other hands by then."""
        if self._allocator.closing or self._granted or self._id is None:
            return
        try:
            await self._allocator.leave([self._id], why)
        except StoreDown as down:  # Nobody listens there any more: the next service forgets it.
            structlog.get_logger().warning("request_not_left", request=self._id, reason=str(down))
