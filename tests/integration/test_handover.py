"""Clients that disconnect while Redis is down: a grant they received stays valid, any other is released."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from support.reservations import ALICE, Lab

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Record
from canhazgpu.service.reservations import handover as module
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.cancellation import Cancellations
from canhazgpu.service.reservations.handover import Handover
from canhazgpu.service.reservations.queue_wait import QueuePlace
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.reservations.script_replies import Reserved
from canhazgpu.service.status.shared_queue import SharedQueue

pytestmark = pytest.mark.anyio


class Shaky(Allocator):
    """An allocator whose Redis can be down."""

    away = stuck = False

    async def release(self, order: ReleaseOrder, operation: str) -> Any:
        """Release, if Redis is up."""
        if self.stuck:
            raise StoreDown("away")
        return await super().release(order, operation)

    async def reserve(self, ask: AllocationRequest, operation: str) -> Reserved:
        """Reserve, if Redis is up."""
        if self.away:
            raise StoreDown("away")
        return await super().reserve(ask, operation)


class Desk:
    """Queue places on a host with two idle GPUs, and their results."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.allocator = Shaky(lab.settings, lab.store)
        self.queue = SharedQueue(lab.store, self.allocator)
        self.resumed: list[str] = []
        self.begun: list[str] = []
        helpers: Any = SimpleNamespace(
            request_scan=lambda: None, resume=lambda one: self.resumed.append(one.id)
        )
        self.handover = Handover(lab.store, self.allocator, helpers, helpers)

    def ask(self, **wanted: Any) -> AllocationRequest:
        """Return a request for one GPU for an hour, with changes."""
        whole = {
            "kind": "manual",
            "user": "alice",
            "uid": ALICE,
            "count": 1,
            "duration_ms": 3_600_000,
            **wanted,
        }
        return AllocationRequest(**whole)

    def place(self, operation: str = "one", **wanted: Any) -> QueuePlace:
        """Start a request."""
        ask = self.ask(**wanted)
        begin = self._begin
        cancelled = Cancellations(self.allocator).reason
        return QueuePlace(
            self.queue,
            self.allocator,
            self.handover,
            ask,
            operation,
            start=begin,
            refresh=lambda now: now,
            cancelled=cancelled,
        )

    def _begin(self, record: Record, cards: Mapping[str, str]) -> dict[str, Any]:
        assert set(cards) >= {str(index) for index in record.gpus}
        self.begun.append(record.id)
        self.handover.send(record, lambda heard: heard(True))  # noqa: FBT003 - as the service is told
        return {"state": "granted"}

    async def held(self) -> int:
        """Return the number of reservations."""
        return len(await self.allocator.reservations())


@pytest.fixture
async def desk(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A reservation that was not delivered is released after a while."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    monkeypatch.setattr(module, "AGAIN", 0.3)
    lab = Lab(store)
    await lab.scan()
    made = Desk(lab)
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.handover.run)
        yield made
        tasks.cancel_scope.cancel()


async def first(place: QueuePlace) -> Any:
    """Return the first line of a place, whose client stays connected."""
    lines = place.lines(None)
    return await anext(lines), lines


async def until(question: Callable[[], Awaitable[int]], expected: int) -> None:
    """Wait for a response."""
    with anyio.fail_after(60):
        while await question() != expected:  # noqa: ASYNC110 - it is Redis that is asked
            await anyio.sleep(0.05)


async def test_who_comes_back_and_is_told_keeps_it(desk: Desk) -> None:
    """If a client comes back, the clean-up of its former connection changes nothing."""
    desk.allocator.away = True
    before, after = desk.place(wait=True), desk.place(wait=True)
    assert (await first(before))[0] is None
    await before.disconnect()
    desk.allocator.away = False
    assert (await first(after))[0] == {"state": "granted"}
    await anyio.sleep(1.5)
    assert (len(desk.begun), await desk.held()) == (1, 1)


async def test_who_stands_there_again_is_not_served_at_the_old_place(desk: Desk) -> None:
    """After Redis is back, only the connected client gets the response."""
    desk.allocator.away = True
    before, after = desk.place(wait=True), desk.place(wait=True)
    assert (await first(before))[0] is None
    await before.disconnect()
    none, lines = await first(after)
    assert none is None
    desk.allocator.away = False
    await anyio.sleep(1.5)
    desk.allocator.wake()
    assert await anext(lines) == {"state": "granted"}
    assert await desk.held() == 1


async def test_who_asks_again_while_it_is_given_back_keeps_it(desk: Desk) -> None:
    """If a later response was delivered, the release that was delayed by Redis is dropped."""
    desk.allocator.stuck = True
    given = (await desk.allocator.reserve(desk.ask(), "one")).reservation
    assert given
    desk.handover.send(given, lambda heard: heard(False))  # noqa: FBT003 - as the service is told
    await anyio.sleep(0.9)
    assert (await first(desk.place(wait=True)))[0] == {"state": "granted"}
    desk.allocator.stuck = False
    await anyio.sleep(0.9)
    assert await desk.held() == 1


async def test_an_answer_that_was_lost_is_made_up_for(desk: Desk) -> None:
    """A client that got an error and never came back leaves no reservation."""
    await desk.allocator.reserve(desk.ask(), "one")
    desk.allocator.away = True
    with pytest.raises(StoreDown):
        await desk.place().once()
    assert await desk.held() == 1
    desk.allocator.away = False
    await until(desk.held, 0)


async def test_who_dies_when_served_is_followed_and_gives_back(desk: Desk) -> None:
    """A run that was granted after its client disconnected is watched, and released if nobody returns."""
    hold = await desk.allocator.reserve(desk.ask(count=2), "hold")
    place = desk.place("two", kind="run", duration_ms=None, pid=1, start=1, wait=True)
    line, _ = await first(place)
    await desk.allocator.release(
        ReleaseOrder(uid=ALICE, by="alice", reason="released", ids=(hold.id,)), "end"
    )
    await desk.lab.scan()
    await desk.allocator.expire()
    await until(desk.held, 1)
    await place.disconnect()
    await until(desk.held, 0)
    assert desk.resumed == [line["id"]]


async def test_nobody_stands_for_somebody_else(desk: Desk) -> None:
    """A request that belongs to another user is reported as gone and not touched."""
    await desk.allocator.reserve(desk.ask(count=2), "hold")
    line, lines = await first(desk.place("theirs", wait=True))
    other = desk.place("mine", uid=ALICE + 1, user="bob", wait=True, id=line["id"])
    assert (await first(other))[0]["state"] != "queued"
    await other.disconnect()
    await anyio.sleep(0.5)
    assert [one.id for one in await desk.allocator.waiting()] == [line["id"]]
    del lines
