"""What consumers of the library learn about entries that were removed, and `follow`, which has no group."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from support.eventually import eventually
from support.foreign_consumer import GROUP, append, left_nothing, member, pending, running, until_length
from support.redis_lab import Server

from canhazgpu.events import Gap, StreamEvent, follow
from canhazgpu.events.envelope import GAP
from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


def shape(events: list[StreamEvent]) -> list[Any]:
    """Return the missing number for a gap, the number of an event."""
    return [
        event.data["missing"] if event.type == GAP else f"-{event.stream_id.partition('-')[2]}"
        for event in events
    ]


async def trim(store: Store, first: str) -> None:
    """Remove all entries before this one."""
    await store.redis.xtrim(store.keys.events, minid=first, approximate=False)


async def test_a_group_that_was_away_learns_how_many_are_missing(store: Store) -> None:
    """The gap comes before the next event, whatever the types, and only once."""
    await append(store, 1, 3)
    found: list[StreamEvent] = []
    async with running(member(store, types=["gpu"]), found.append):
        await until_length(found, 2)
        await left_nothing(store)
    ids = await append(store, 4, 9)
    await trim(store, ids[4])
    for _ in range(2):
        async with running(member(store, types=["gpu"]), found.append):
            await until_length(found, 4)
            await left_nothing(store)
    assert shape(found) == ["-1", "-3", 4, "-9"]
    gap = found[2].typed()
    assert isinstance(gap, Gap)
    assert (gap.missing, gap.before) == (4, ids[4])


async def test_a_gap_between_two_batches_is_told_too(store: Store) -> None:
    """Entries that are removed while the group is behind count as missing."""
    ids = await append(store, 1, 20)
    found: list[StreamEvent] = []

    async def handle(event: StreamEvent) -> None:
        if event.stream_id == ids[1]:
            await trim(store, ids[7])
        found.append(event)

    async with running(member(store, batch=2), handle):
        await until_length(found, 16)
    assert shape(found) == ["-1", "-2", 5, *(f"-{number}" for number in range(8, 21))]


async def test_what_another_member_reads_is_no_gap(store: Store) -> None:
    """Entries that went to another member of the group are not missing."""
    found: list[StreamEvent] = []
    ids = await append(store, 1, 12)

    async def handle(event: StreamEvent) -> None:
        if event.stream_id == ids[1]:
            await store.redis.xreadgroup(GROUP, "two", {store.keys.events: ">"}, count=5)
        found.append(event)

    async with running(member(store, batch=2), handle):
        await until_length(found, 7)
    assert shape(found) == ["-1", "-2", *(f"-{number}" for number in range(8, 13))]


async def test_a_new_group_misses_nothing(store: Store) -> None:
    """What was removed before the group existed is not missing."""
    ids = await append(store, 1, 9)
    await trim(store, ids[5])
    found: list[StreamEvent] = []
    async with running(member(store), found.append):
        await until_length(found, 4)
    assert shape(found) == ["-6", "-7", "-8", "-9"]


async def test_pending_entries_that_were_removed_are_missing(store: Store) -> None:
    """They are counted and acknowledged; those that still exist are handled."""
    ids = await append(store, 1, 5)
    await store.redis.xgroup_create(store.keys.events, GROUP, id="0")
    await store.redis.xreadgroup(GROUP, "one", {store.keys.events: ">"})
    await trim(store, ids[3])
    found: list[StreamEvent] = []
    async with running(member(store), found.append):
        await until_length(found, 3)
        await left_nothing(store)
    assert shape(found) == ["-4", "-5", 3]
    assert await pending(store) == 0


async def test_events_come_again_after_redis_was_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Consumer and follow wait while Redis is away, and miss and repeat nothing."""
    server = Server(tmp_path, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
    store = Store(f"redis://127.0.0.1:{server.port}", "away")
    found: list[StreamEvent] = []
    followed: list[StreamEvent] = []

    async def read() -> None:
        async for event in follow(store.endpoint, host="away", after="0"):
            followed.append(event)  # noqa: PERF401 - as they come

    following = asyncio.ensure_future(read())
    try:
        async with running(member(store), found.append):
            await append(store, 1, 5)
            await until_length(found, 5)
            await left_nothing(store)
            await until_length(followed, 5)
            server.kill()

            async def told() -> bool:
                return caplog.text.count("trying again") >= 2

            await eventually(told)
            server.start()
            await append(store, 6, 7)
            await until_length(found, 7)
            await until_length(followed, 7)
    finally:
        following.cancel()
        await asyncio.wait({following})
        await store.close()
        server.kill()
    assert shape(found) == shape(followed) == [f"-{number}" for number in range(1, 8)]


async def take(events: Any, count: int) -> list[StreamEvent]:
    """Return the next events."""
    found: list[StreamEvent] = []
    async with asyncio.timeout(30), aclosing(cast(AsyncGenerator[StreamEvent], events)):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_follow_continues_after_an_entry_and_tells_of_a_gap(store: Store) -> None:
    """From an entry, from the beginning, of some types, and from the place of a gap, which is told once."""
    ids = await append(store, 1, 9)
    host, url = store.keys.host, store.endpoint
    assert shape(await take(follow(url, host=host, after=ids[6]), 2)) == ["-8", "-9"]
    assert shape(await take(follow(url, host=host, after="0", types=["request"]), 2)) == ["-2", "-4"]
    await trim(store, ids[5])
    gap, event = await take(follow(url, host=host, after=ids[1]), 2)
    assert shape([gap, event]) == [3, "-6"]
    assert shape(await take(follow(url, host=host, after=gap.stream_id), 1)) == ["-6"]


async def test_follow_begins_with_what_comes(store: Store) -> None:
    """Without `after`, past events are left out, also if there is no stream yet; no event is read twice."""
    events = follow(store.endpoint, host=store.keys.host)
    first = asyncio.ensure_future(anext(events))

    async def blocked() -> bool:
        clients: Any = await store.redis.client_list()
        return any("b" in one["flags"] and one["cmd"] == "xread" for one in clients)

    await eventually(blocked)
    await append(store, 1, 1)
    assert shape([await asyncio.wait_for(first, 20)]) == ["-1"]
    await append(store, 2, 2)
    assert shape(await take(events, 1)) == ["-2"]
    later = asyncio.ensure_future(take(follow(store.endpoint, host=store.keys.host), 1))
    await eventually(blocked)
    await append(store, 3, 3)
    assert shape(await later) == ["-3"]
