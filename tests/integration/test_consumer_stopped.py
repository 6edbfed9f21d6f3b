"""A consumer of the library that is stopped: what it still does, and what stays pending."""

import asyncio

import pytest
from support.foreign_consumer import GROUP, append, left_nothing, member, pending, running, until_length

from canhazgpu.events import StreamEvent
from canhazgpu.events.consumer import handling
from canhazgpu.events.envelope import GAP
from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


async def test_stop_lets_the_event_at_hand_finish(store: Store) -> None:
    """It is acknowledged with those before it; those after it come when the group is read again."""
    ids = await append(store, 1, 5)
    consumer, began, release = member(store), asyncio.Event(), asyncio.Event()
    found: list[str] = []

    async def handle(event: StreamEvent) -> None:
        if event.stream_id == ids[2]:
            began.set()
            await release.wait()
        found.append(event.stream_id)

    async with running(consumer, handle) as task:
        await began.wait()
        consumer.stop()
        assert not task.done()
        release.set()
        await asyncio.wait_for(task, 20)
    assert found == ids[:3]
    assert await pending(store) == 2
    async with running(member(store), lambda event: found.append(event.stream_id)):
        await until_length(found, 5)
    assert found == ids


async def test_stop_ends_a_read_that_waits_and_a_pause(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle consumer ends at once; so does one whose event is to be tried again, and that stays pending."""
    consumer, found = member(store), []
    await append(store, 1, 1)
    async with running(consumer, lambda event: found.append(event.stream_id)) as task:
        await until_length(found, 1)
        await left_nothing(store)
        consumer.stop()
        await asyncio.wait_for(task, 20)
    monkeypatch.setattr(handling, "PAUSE_FIRST", 1000.0)
    ids = await append(store, 2, 2)
    consumer = member(store)

    def fail(event: StreamEvent) -> None:
        found.append(event.stream_id)
        raise RuntimeError("the ticket system says no")

    async with running(consumer, fail) as task:
        await until_length(found, 2)
        consumer.stop()
        await asyncio.wait_for(task, 20)
    assert found[1:] == ids
    assert await pending(store) == 1


async def test_stop_can_leave_what_was_handled_pending(store: Store) -> None:
    """A handler learns that what it did was in vain: nothing of it is acknowledged."""
    ids = await append(store, 1, 3)
    consumer = member(store)
    found: list[str] = []

    async def handle(event: StreamEvent) -> None:
        found.append(event.stream_id)
        if event.stream_id == ids[1]:
            consumer.stop(acknowledge=False)
            raise BrokenPipeError

    await asyncio.wait_for(consumer.run(handle), 20)
    assert found == ids[:2]
    assert await pending(store) == 3


async def test_stop_while_a_gap_is_handled(store: Store) -> None:
    """No event is read after it."""
    await append(store, 1, 3)
    await store.redis.xgroup_create(store.keys.events, GROUP, id="1795600000000-1")
    await store.redis.xtrim(store.keys.events, minid="1795600000003-3", approximate=False)
    consumer = member(store)
    found: list[str] = []

    async def handle(event: StreamEvent) -> None:
        found.append(event.type)
        consumer.stop()

    await asyncio.wait_for(consumer.run(handle), 20)
    assert found == [GAP]
    assert await pending(store) == 0


async def test_stop_before_it_runs(store: Store) -> None:
    """It handles nothing."""
    await append(store, 1, 1)
    consumer = member(store)
    consumer.stop()
    found: list[str] = []
    await asyncio.wait_for(consumer.run(lambda event: found.append(event.type)), 20)
    assert found == []
