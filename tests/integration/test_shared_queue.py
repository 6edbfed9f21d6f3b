"""Requests that wait share what they read of the queue: a change costs the same for one as for many."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from support.eventually import eventually
from support.reservations import ALICE, BOB, Lab

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Record
from canhazgpu.service.reservations import queue_wait
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.cancellation import Cancellations
from canhazgpu.service.reservations.handover import Handover
from canhazgpu.service.reservations.queue_wait import QueuePlace
from canhazgpu.service.status import queue_status
from canhazgpu.service.status.shared_queue import QueueView, SharedQueue

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


class Waiter:
    """A request that waits, and the lines that its client got."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.turns = 0  # Lines, and signs of life.

    @property
    def position(self) -> int | None:
        """Its last known position."""
        return self.lines[-1].get("position") if self.lines else None

    async def follow(self, place: QueuePlace) -> None:
        """Read all lines."""
        async for line in place.lines(None):
            self.turns += 1
            if line is not None:
                self.lines.append(line)


class Desk:
    """A host on which Bob holds both GPUs, with waiting requests of Alice."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.allocator = lab, lab.allocator
        self.queue = SharedQueue(lab.store, lab.allocator)
        self.waiters: list[Waiter] = []
        nothing: Any = SimpleNamespace(request_scan=lambda: None, resume=lambda _: None)
        self.handover = Handover(lab.store, lab.allocator, nothing, nothing)

    def place(self, operation: str, **wanted: Any) -> QueuePlace:
        """Return a request for one GPU for an hour."""
        whole = {
            "kind": "manual",
            "user": "alice",
            "uid": ALICE,
            "count": 1,
            "duration_ms": HOUR_MS,
            **wanted,
        }
        return QueuePlace(
            self.queue,
            self.allocator,
            self.handover,
            AllocationRequest(**whole, wait=True),
            operation,
            start=self._begin,
            refresh=lambda now: now,
            cancelled=Cancellations(self.allocator).reason,
        )

    async def wait(self, count: int) -> None:
        """Let `count` requests queue up, one after the other."""
        for number in range(count):
            waiter = Waiter()
            self.waiters.append(waiter)
            self.tasks.start_soon(waiter.follow, self.place(f"{number}"))
            await eventually(lambda waiter=waiter: _true(waiter.position))  # type: ignore[misc]

    def _begin(self, record: Record, cards: Mapping[str, str]) -> dict[str, Any]:
        del cards
        return {"state": "granted", "id": record.id}

    async def change(self) -> None:
        """Extend Bob's reservations by an hour, which changes what every request expects."""
        before = [waiter.turns for waiter in self.waiters]
        reply = await self.allocator.extend(BOB, f"{before}", gpus=None, add_ms=HOUR_MS, most_ms=None)
        assert reply["code"] == "extended"
        await eventually(lambda: _true(all(map(int.__gt__, (one.turns for one in self.waiters), before))))

    tasks: Any = None


async def _true(value: object) -> object:
    return value


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    """Two GPUs that Bob holds."""
    lab = Lab(store)
    await lab.reserve(uid=BOB, gpus=(0, 1))
    made = Desk(lab)
    async with anyio.create_task_group() as tasks:
        made.tasks = tasks
        yield made
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def counted(store: Store) -> AsyncIterator[dict[str, int]]:
    """Count the commands that Redis carries out meanwhile."""

    async def calls() -> dict[str, int]:
        rows: Any = await store.redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): row["calls"] for name, row in rows.items()}

    before, found = await calls(), dict[str, int]()
    yield found
    found.update({name: number - before.get(name, 0) for name, number in (await calls()).items()})


@pytest.mark.parametrize("waiting", [1, 20])
async def test_a_change_is_read_once_for_all(
    desk: Desk, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change, the queue is read and computed once, and no script runs, however many requests wait."""
    looked: list[int] = []
    why = queue_status._why  # noqa: SLF001 - what is counted

    def counting(*words: Any) -> Any:
        looked.append(words[0].usage.index)
        return why(*words)

    monkeypatch.setattr(queue_wait, "SIGN_OF_LIFE", 1000.0)
    monkeypatch.setattr(queue_wait, "CHECK_AGAIN", 1000.0)
    await desk.wait(waiting)
    monkeypatch.setattr(queue_status, "_why", counting)
    async with counted(desk.lab.store) as commands:
        await desk.change()
    assert commands["exec"] == 1
    assert commands["evalsha"] == 1  # That of the change itself.
    assert sorted(looked) == [0, 1]
    expected = [waiter.lines[-1]["expected"] for waiter in desk.waiters]
    assert all(len(waiter.lines) == 2 for waiter in desk.waiters)
    assert expected == sorted(expected)


async def test_a_look_is_shared_until_something_changes(desk: Desk) -> None:
    """A recent look is used again, but none from before a change or before the moment that is asked for."""
    before = time.monotonic()
    first = await desk.queue.look(before)
    assert await desk.queue.look(before) is first
    second = await desk.queue.look(time.monotonic())
    assert second is not first
    desk.allocator.wake()
    assert await desk.queue.look(before) not in {first, second}


async def test_a_client_that_leaves_reads_on_for_others(desk: Desk) -> None:
    """If a client leaves while it reads the queue for all, the others get what it reads."""
    found: list[QueueView] = []
    reading = anyio.CancelScope()

    async def read() -> None:
        with reading:
            await desk.queue.look(0.0)

    async def look() -> None:
        found.append(await desk.queue.look(0.0))

    async with counted(desk.lab.store) as commands, anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(look)
        tasks.start_soon(_soon, reading.cancel)
    assert len(found) == 1
    assert commands["exec"] == 1


async def test_one_failure_is_the_answer_for_all(desk: Desk) -> None:
    """All who wait for the same read are told that Redis does not answer."""
    reads: list[anyio.Event] = []
    down: list[StoreDown] = []

    class Counting:
        def listen(self) -> anyio.Event:
            reads.append(anyio.Event())
            return reads[-1]

        def unlisten(self, event: anyio.Event) -> None:
            del event

    queue = SharedQueue(Store("unix:///nowhere/redis.sock", desk.lab.store.keys.host), Counting())

    async def look() -> None:
        try:
            await queue.look(0.0)
        except StoreDown as error:
            down.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look)
    assert (len(reads), len(down)) == (1, 5)


async def test_the_journal_is_told_of_a_request_that_left(desk: Desk) -> None:
    """A request that leaves the queue leaves the journal too, even if no other one waits."""
    noted: list[None] = []
    await desk.wait(1)
    name = (await desk.allocator.waiting())[0].id
    desk.allocator.note = lambda: noted.append(None)
    assert await desk.allocator.leave([name], "cancelled")
    assert noted


async def _soon(action: Callable[[], object]) -> None:
    action()
