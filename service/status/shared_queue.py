"""The queue for the requests that wait in it: it is read and computed once for all of them."""

import time
from functools import cached_property
from typing import Any, Protocol

import anyio

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Waiting
from canhazgpu.service.status.queue_status import queue
from canhazgpu.service.storage.snapshot import Snapshot, snapshot


class Changes(Protocol):
    """Tells when something may have changed for a waiting request."""

    def listen(self) -> anyio.Event:
        """Return an event that is set at the next change."""

    def unlisten(self, event: anyio.Event) -> None:
        """Stop listening."""


class QueueView:
    """The queue at one moment. It is computed when a row is first asked for."""

    def __init__(self, seen: Snapshot) -> None:
        """Use this state of the host."""
        self._seen = seen
        self.waiting: dict[str, Waiting] = {request.id: request for request in seen.waiting}

    def row(self, name: str) -> dict[str, Any]:
        """Return the row of a request; it is empty if the request does not wait."""
        return self._rows.get(name, {})

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in queue(self._seen)}


class _Reading:
    """One read of the queue, which may be under way."""

    def __init__(self, changed: anyio.Event) -> None:
        self.began = time.monotonic()
        self.changed = changed
        self.done = anyio.Event()
        self.view: QueueView | None = None
        self.error = StoreDown("the queue could not be read")

    def covers(self, after: float) -> bool:
        """Return whether it began after this moment, and after the last change."""
        return self.began >= after and not self.changed.is_set()

    def result(self) -> QueueView:
        """Return what was read. Raises StoreDown."""
        if self.view is None:
            raise self.error
        return self.view


class SharedQueue:
    """Reads the queue for all who wait in it, one read at a time.

    Invariant: a view was read after the last change that was known when it was asked for.
    """

    def __init__(self, store: Store, changes: Changes) -> None:
        """Read from `store`; `changes` tells when to read again."""
        self.store, self._changes = store, changes
        self._last: _Reading | None = None

    async def look(self, after: float) -> QueueView:
        """Return the queue as it was at a moment after `after` (on the monotonic clock). Raises StoreDown."""
        while (reading := self._last) is None or not reading.covers(after):
            if reading is None or reading.done.is_set():
                return await self._read()
            await reading.done.wait()
        await reading.done.wait()
        return reading.result()

    async def _read(self) -> QueueView:
        if self._last is not None:
            self._changes.unlisten(self._last.changed)
        reading = self._last = _Reading(self._changes.listen())
        try:
            with anyio.CancelScope(shield=True):  # Others wait for it, too.
                reading.view = QueueView(await snapshot(self.store))
        except StoreDown as down:
            reading.error = down
        finally:
            reading.done.set()
        return reading.result()
