"""A member of a consumer group on a real Redis: poison, lost groups, members that have gone."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from support.eventually import eventually

from canhazgpu.events.envelope import Event
from canhazgpu.events.outbox import deadletters, replay
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.workers.consumer import BATCH, CLAIM_AFTER, Consumer

pytestmark = pytest.mark.anyio
GROUP = "log"
GOOD = Event(
    id="1-1", source="//h/canhazgpu", type="canhazgpu.gpu.changed", subject="gpu/0", time="t", data={}
)


@pytest.fixture
async def consumer(store: Store) -> AsyncIterator[Consumer]:
    """The one member of a group on the notices stream."""
    made = Consumer(store, store.keys.notices, GROUP)
    yield made
    await made.close()


async def put(store: Store, **changes: bytes) -> str:
    """Append an event, some of its fields changed; return its place in the stream."""
    fields: Any = {**GOOD.to_fields(), **changes}
    key: Any = await store.redis.xadd(store.keys.notices, fields)
    return str(key.decode())


async def pending(store: Store) -> int:
    """Return how many entries were handed out and not acknowledged."""
    about: Any = await store.redis.xpending(store.keys.notices, GROUP)
    return int(about["pending"])


async def pause(store: Store, name: str) -> int:
    """Return the id of the blocked client of the group, once it blocks."""

    async def blocked() -> int:
        clients: Any = await store.redis.client_list()
        found = [int(one["id"]) for one in clients if "b" in one["flags"] and one["cmd"] == name]
        return found[0] if found else 0

    return await eventually(blocked)


async def test_new_entries_come_in_order_and_once(store: Store, consumer: Consumer) -> None:
    """What was there before the group was is read too; what was acknowledged does not come back."""
    ids = [await put(store) for _ in range(3)]
    entries = await consumer.new(0)
    assert [one.id for one in entries] == ids
    assert entries[0].event == GOOD
    await consumer.acknowledge(*ids[:2])
    assert await consumer.new(0) == []
    assert [one.id for one in await consumer.unfinished()] == ids[2:]
    assert await pending(store) == 1


async def test_more_than_a_batch_that_is_unfinished_comes_back_whole(store: Store) -> None:
    """A member that starts again finds everything it had, however much, and each once."""
    ids = [await put(store) for _ in range(BATCH * 2 + 1)]
    first, again = (Consumer(store, store.keys.notices, GROUP) for _ in range(2))
    for _ in range(3):
        await first.new(0)
    await first.close()
    assert [one.id for one in await again.unfinished()] == ids
    await again.close()


@pytest.mark.parametrize(
    "poison",
    [
        {"data": b"\xff\xfe\x00"},
        {"data": b"{"},
        {"data": b"[]"},
        {"data": b""},
        {"data": b'{"a": "\xff"}'},
        {"data": b"[" * 100_000},
        {"data": b'{"a":' * 5_000},
        {"data": b'{"a": ' + b"9" * 5_000 + b"}"},
        {"id": b"\xc3\x28"},
        {"specversion": b"9.9"},
        {"specversion": b""},
        {"\udcff".encode("utf-8", "surrogateescape").decode("latin-1"): b"\xff", "data": b"\xff"},
    ],
)
async def test_poison_becomes_a_dead_letter_and_the_next_entry_comes(
    store: Store, consumer: Consumer, poison: dict[str, bytes]
) -> None:
    """With its raw bytes, the reason and where it came from; it is not pending any more."""
    bad = await put(store, **poison)
    good = await put(store)
    assert [one.id for one in await consumer.new(0)] == [good]
    await consumer.acknowledge(good)
    assert await pending(store) == 0
    (row,) = await raw_letters(store)
    assert (row[b"stream"], row[b"entry"]) == (store.keys.notices.encode(), bad.encode())
    assert row[b"reason"]
    assert all(row[b"raw:" + name.encode()] == value for name, value in poison.items())
    (letter,) = await deadletters(store)
    assert letter.channel == GROUP


async def raw_letters(store: Store) -> list[dict[bytes, bytes]]:
    """Return the dead letters' fields as Redis has them."""
    rows: Any = await store.redis.xrange(store.keys.deadletters)
    return [fields for _, fields in rows]


@pytest.mark.parametrize("count", [1, 100, 10_000])
async def test_an_entry_of_many_unknown_fields_is_poison_like_any(
    store: Store, consumer: Consumer, count: int
) -> None:
    """However many fields, it is in the dead letters before it is acknowledged, and the loop goes on."""
    await store.redis.xadd(store.keys.notices, {f"field{number}": "x" for number in range(count)})
    good = await put(store)
    assert [one.id for one in await consumer.new(0)] == [good]
    assert len(await raw_letters(store)) == 1


async def test_an_event_with_fields_of_a_later_version_is_read(store: Store, consumer: Consumer) -> None:
    """Fields that nobody knows yet are no reason to refuse an event."""
    key = await put(store, traceparent=b"00-abc")
    assert [one.id for one in await consumer.new(0)] == [key]


async def test_poison_that_was_left_unfinished_is_buried_too(store: Store, consumer: Consumer) -> None:
    """A member that died over it, and one that comes after: nobody trips twice."""
    await put(store, data=b"\xff")
    await consumer.new(0)
    bad = await put(store, data=b"\xff")
    await store.redis.xreadgroup(GROUP, consumer.name, {store.keys.notices: ">"})
    assert await consumer.unfinished() == []
    assert [row[b"entry"] for row in await raw_letters(store)][-1] == bad.encode()
    assert await pending(store) == 0


async def test_an_entry_that_was_deleted_while_pending_is_buried(store: Store, consumer: Consumer) -> None:
    """Trimmed or deleted, it is a dead letter without bytes, and pending no more."""
    key = await put(store)
    await consumer.new(0)
    await store.redis.xdel(store.keys.notices, key)
    assert await consumer.unfinished() == []
    assert await pending(store) == 0
    (letter,) = await deadletters(store)
    assert "trimmed" in letter.reason


async def test_a_dead_letter_that_is_replayed_comes_again(store: Store, consumer: Consumer) -> None:
    """As it was, byte for byte; if it is still poison it is buried again."""
    await put(store, data=b"\xff")
    await consumer.new(0)
    (letter,) = await deadletters(store)
    assert await replay(store, letter.id)
    assert not await replay(store, letter.id)
    assert await consumer.new(0) == []
    (again,) = await raw_letters(store)
    assert again[b"raw:data"] == b"\xff"


async def test_a_group_that_was_lost_is_made_again(store: Store, consumer: Consumer) -> None:
    """After FLUSHALL the loop goes on, and reads what came since from the beginning."""
    await put(store)
    assert len(await consumer.new(0)) == 1
    await store.redis.flushall()
    key = await put(store)
    assert await consumer.new(0) == []
    assert [one.id for one in await consumer.new(0)] == [key]
    await store.redis.flushall()
    assert await consumer.unfinished() == []
    assert await consumer.new(0) == []


async def test_a_group_that_is_lost_between_two_steps_is_made_again(store: Store) -> None:
    """Redis is wiped after a member read its pending entries and before it takes over those of others."""

    class Wiped(Consumer):
        async def _read(self, after: str, block: int | None) -> Any:
            rows = await super()._read(after, block)
            await store.redis.flushall()
            return rows

    consumer = Wiped(store, store.keys.notices, GROUP)
    assert await consumer.unfinished() == []
    groups: Any = await store.redis.xinfo_groups(store.keys.notices)
    assert [group["name"] for group in groups] == [GROUP.encode()]
    await consumer.close()


async def test_a_group_that_is_lost_during_a_read_is_made_again(store: Store, consumer: Consumer) -> None:
    """FLUSHALL while the member waits for an entry: the next one still comes."""
    found: list[str] = []
    assert await consumer.new(0) == []

    async def read() -> None:
        while not found:
            found.extend(one.id for one in await consumer.new(5))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await pause(store, "xreadgroup")
            await store.redis.flushall()
            key = await put(store)
    assert found == [key]


async def test_a_read_that_redis_breaks_off_is_no_crash(store: Store, consumer: Consumer) -> None:
    """-UNBLOCKED, as Redis 7.0 says when a stream is deleted during a read: the next entry still comes."""
    found: list[str] = []
    assert await consumer.new(0) == []

    async def read() -> None:
        while not found:
            found.extend(one.id for one in await consumer.new(5))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await store.redis.client_unblock(await pause(store, "xreadgroup"), error=True)
            key = await put(store)
    assert found == [key]


async def test_what_a_dead_member_left_is_taken_over(store: Store, consumer: Consumer) -> None:
    """Once it was idle for longer than any delivery takes, and not before."""
    ids: Any = [await put(store) for _ in range(3)]
    other = Consumer(store, store.keys.notices, GROUP, "died")
    assert len(await other.new(0)) == 3
    await other.close()
    assert await consumer.unfinished() == []
    idle = round(CLAIM_AFTER * 1000) + 1
    await store.redis.xclaim(store.keys.notices, GROUP, "died", 0, ids[:2], idle=idle)
    assert [one.id for one in await consumer.unfinished()] == ids[:2]
    await consumer.acknowledge(*ids[:2])
    assert await pending(store) == 1


async def test_poison_of_a_dead_member_is_buried_by_the_next(store: Store, consumer: Consumer) -> None:
    """It killed one member; it does not kill the one that takes over."""
    bad = await put(store, data=b"\xff")
    await store.redis.xgroup_create(store.keys.notices, GROUP, id="0")
    await store.redis.xreadgroup(GROUP, "died", {store.keys.notices: ">"})
    idle = round(CLAIM_AFTER * 1000) + 1
    await store.redis.xclaim(store.keys.notices, GROUP, "died", 0, [bad], idle=idle)
    assert await consumer.unfinished() == []
    assert await pending(store) == 0
    assert len(await raw_letters(store)) == 1


async def test_without_redis_it_says_so() -> None:
    """Every question ends with StoreDown, none with an error of the client library."""
    store = Store("unix:///nonexistent/redis.sock", "h")
    consumer = Consumer(store, store.keys.notices, GROUP)
    for question in (
        consumer.unfinished(),
        consumer.new(0),
        consumer.entry("1-1"),
        consumer.acknowledge("1-1"),
        consumer.bury("1-1", "why", {}),
    ):
        with pytest.raises(StoreDown, match="Redis does not answer"):
            await question
    await consumer.close()
    await store.close()
