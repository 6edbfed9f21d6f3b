"""Reservations on their way to who asked for them: what nobody hears of is given back.

A client may go at any moment: while it waits, when its turn has just come, before the answer is read.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from canhazgpu.events.reservations import RUN, Record
from canhazgpu.events.store import Store, StoreDown
from canhazgpu.service.allocator import Allocator, ReleaseOrder
from canhazgpu.service.exchange import operation_of
from canhazgpu.service.liveness import Liveness
from canhazgpu.service.scanner import Scanner

PATIENCE = 3.0  # Seconds for asking again: a client does so within half a second.
AGAIN = 0.2  # Seconds until what Redis did not take is tried again.

Name = tuple[int, str]  # A uid, and the operation or the request of that user.
WhenHeard = Callable[[Callable[[bool], None]], None]
Find = Callable[[], Awaitable[str | None]]


class Handover:
    """Gives back what was granted to somebody who was gone before the answer reached them.

    A client whose connection broke asks again under the same operation or request, and is answered with
    the same reservation: only when its last answer is lost too does the reservation end.
    """

    def __init__(self, store: Store, allocator: Allocator, liveness: Liveness, scanner: Scanner) -> None:
        """Prepare; nothing is on its way."""
        self._store, self._allocator, self._scanner = store, allocator, scanner
        self._liveness = liveness
        self._latest: dict[str, object] = {}  # The last answer on its way, by reservation.
        self._places: dict[Name, object] = {}  # Who waits now, by the names of what they wait for.
        self._tasks: TaskGroup | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look after them until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            await anyio.sleep_forever()

    def send(self, record: Record, when_heard: WhenHeard) -> None:
        """Say that an answer with this reservation is on its way; `when_heard` knows what becomes of it."""
        answer = self._latest[record.id] = object()

        def over(heard: bool) -> None:  # noqa: FBT001 - the one thing there is to say
            if self._latest.get(record.id) is not answer:
                return
            if heard:
                del self._latest[record.id]
            elif self._tasks:
                self._tasks.start_soon(self._give_back, record, answer)

        when_heard(over)

    def stand(self, place: object, *names: Name) -> None:
        """Say that `place` waits for what has these names; who did before, and has gone, does no more."""
        self._places |= dict.fromkeys(names, place)

    def stands(self, place: object, names: Iterable[Name]) -> bool:
        """Tell whether nobody has come back for any of these since."""
        return all(self._places.get(name) is place for name in names)

    def settled(self, place: object, names: Iterable[Name]) -> None:
        """Say that what becomes of it was told at this place."""
        for name in names:
            if self._places.get(name) is place:
                del self._places[name]

    def vacate(self, place: object, names: Collection[Name], find: Find) -> None:
        """Give up a place whose owner has gone; `find` returns the request's id, or raises StoreDown.

        `names` may grow until then. Nothing is done when the owner comes back meanwhile.
        """
        if self._tasks:
            self._tasks.start_soon(self._vacate, place, names, find)

    async def _vacate(self, place: object, names: Collection[Name], find: Find) -> None:
        def alone() -> bool:
            return self.stands(place, names)

        served: list[Record] = []
        while alone():
            try:
                request = await find()
                if request is None or not alone():
                    break
                if not await self._allocator.leave([request], "cancelled"):
                    served = [one for one in await self._allocator.reservations() if one.id == request]
                break
            except StoreDown as down:
                self._store.lost(down)
                await anyio.sleep(AGAIN)
        for record in served if alone() else ():  # Its turn came when nobody stood there any more.
            if record.kind == RUN:
                self._liveness.resume(record)
            answer = self._latest[record.id] = object()
            await self._give_back(record, answer, alone)
        self.settled(place, names)

    async def _give_back(
        self, record: Record, answer: object, alone: Callable[[], bool] = lambda: True
    ) -> None:
        await anyio.sleep(PATIENCE)
        order = ReleaseOrder(uid=record.uid, by=record.user, reason="undelivered", ids=(record.id,))
        operation = operation_of(None)
        while self._latest.get(record.id) is answer and alone():
            try:
                _, released, _ = await self._allocator.release(order, operation)
                if released:
                    structlog.get_logger().info("undelivered", reservation=record.id, user=record.user)
                break
            except StoreDown as down:
                self._store.lost(down)
                await anyio.sleep(AGAIN)
        if self._latest.get(record.id) is answer:
            del self._latest[record.id]
        self._scanner.nudge()
