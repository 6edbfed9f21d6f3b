"""Tracks responses: if a client disconnects before it gets its reservation, the reservation is released.

A client may disconnect at any time: while it waits, when its request is granted, or before it reads the
response.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import RUN, SCHEDULERS, Record
from canhazgpu.service.api.context import operation_id
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.lifetime import Lifetime
from canhazgpu.service.reservations.releases import ReleaseOrder

PATIENCE = 3.0  # Seconds for a client to ask again, which it does within half a second.
AGAIN = 0.2  # Seconds until a change that failed because Redis was down is retried.

Name = tuple[int, str]  # A uid, and the operation or the request of that user.
OnDelivered = Callable[[Callable[[bool], None]], None]
Find = Callable[[], Awaitable[str | None]]


class Handover:
    """Releases reservations whose client was gone before the response arrived.

    A client with a broken connection asks again with the same operation or request, and gets the same
    reservation. The reservation ends only if its last response is lost too.
    """

    def __init__(self, store: Store, allocator: Allocator, liveness: Lifetime, scanner: Scanner) -> None:
        """Start without responses in flight."""
        self._store, self._allocator, self._scanner = store, allocator, scanner
        self._liveness = liveness
        self._latest: dict[str, object] = {}  # The last response in flight, by reservation.
        self._waiters: dict[Name, object] = {}  # The current waiters, by the names of what they wait for.
        self._tasks: TaskGroup | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Release undelivered reservations until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            await anyio.sleep_forever()

    def send(self, record: Record, on_delivered: OnDelivered) -> None:
        """Record that a response with this reservation is being sent; `on_delivered` reports its delivery."""
        response = self._latest[record.id] = object()

        def finish(delivered: bool) -> None:  # noqa: FBT001 - the one thing there is to say
            if self._latest.get(record.id) is not response:
                return
            if delivered:
                del self._latest[record.id]
            elif self._tasks:
                self._tasks.start_soon(self._release_undelivered, record, response)

        on_delivered(finish)

    def register(self, waiter: object, *names: Name) -> None:
        """Record that `waiter` waits for these names; an earlier waiter that is gone is replaced."""
        self._waiters |= dict.fromkeys(names, waiter)

    def is_current(self, waiter: object, names: Iterable[Name]) -> bool:
        """Return whether no client has come back for any of these names since."""
        return all(self._waiters.get(name) is waiter for name in names)

    def unregister(self, waiter: object, names: Iterable[Name]) -> None:
        """Record that the result was reported at this place."""
        for name in names:
            if self._waiters.get(name) is waiter:
                del self._waiters[name]

    def withdraw(self, waiter: object, names: Collection[Name], find: Find) -> None:
        """Remove the request of a client that is gone; `find` returns the request's id, or raises StoreDown.

        `names` may grow until then. Nothing happens if the client comes back in the meantime.
        """
        if self._tasks:
            self._tasks.start_soon(self._withdraw, waiter, names, find)

    async def _withdraw(self, waiter: object, names: Collection[Name], find: Find) -> None:
        def is_current() -> bool:
            return self.is_current(waiter, names)

        served: list[Record] = []
        while is_current():
            try:
                request = await find()
                if request is None or not is_current():
                    break
                if not await self._allocator.leave([request], "cancelled"):
                    served = [one for one in await self._allocator.reservations() if one.id == request]
                break
            except StoreDown as down:
                self._store.report_down(down)
                await anyio.sleep(AGAIN)
        for record in served if is_current() else ():  # It was granted after the client was gone.
            if record.kind == RUN:
                self._liveness.resume(record)
            response = self._latest[record.id] = object()
            await self._release_undelivered(record, response, is_current)
        self.unregister(waiter, names)

    async def _release_undelivered(
        self, record: Record, response: object, is_current: Callable[[], bool] = lambda: True
    ) -> None:
        await anyio.sleep(PATIENCE)
        order = ReleaseOrder(
            uid=record.uid,
            by=record.user,
            reason="undelivered",
            ids=(record.id,),
            admin=record.kind in SCHEDULERS,  # The client was the scheduler's prolog, not the user.
        )
        operation = operation_id(None)
        while self._latest.get(record.id) is response and is_current():
            try:
                _, released, _ = await self._allocator.release(order, operation)
                if released:
                    structlog.get_logger().info("undelivered", reservation=record.id, user=record.user)
                break
            except StoreDown as down:
                self._store.report_down(down)
                await anyio.sleep(AGAIN)
        if self._latest.get(record.id) is response:
            del self._latest[record.id]
        self._scanner.request_scan()
