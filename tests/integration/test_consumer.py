"""A member of a consumer group on a real Redis: unreadable entries, lost groups, dead members."""

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
    """The only member of a group on the notices stream."""
    made = Consumer(store, store.keys.notices, GROUP)
    yield made
    await made.close()


async def put(store: Store, **changes: bytes) -> str:
    """Append an event with changed fields; return its id."""
    fields: Any = {**GOOD.to_fields(), **changes}
    key: Any = await store.redis.xadd(store.keys.notices, fields)
    return str(key.decode())


async def pending(store: Store) -> int:
    """Return the number of delivered and unacknowledged entries."""
    about: Any = await store.redis.xpending(store.keys.notices, GROUP)
    return int(about["pending"])


async def pause(store: Store, name: str) -> int:
    """Return the id of the group's client once it blocks."""

    async def blocked() -> int:
        clients: Any = await store.redis.client_list()
        found = [int(one["id"]) for one in clients if "b" in one["flags"] and one["cmd"] == name]
        return found[0] if found else 0

    return await eventually(blocked)


async def test_new_entries_come_in_order_and_once(store: Store, consumer: Consumer) -> None:
    """Entries from before the group existed are read too; acknowledged ones do not come back."""
    ids = [await put(store) for _ in range(3)]
    entries = await consumer.new(0)
    assert [one.id for one in entries] == ids
    assert entries[0].event == GOOD
    await consumer.acknowledge(*ids[:2])
    assert await consumer.new(0) == []
    assert [one.id for one in await consumer.unfinished()] == ids[2:]
    assert await pending(store) == 1


async def test_more_than_a_batch_that_is_unfinished_comes_back_whole(store: Store) -> None:
    """A restarted member gets all of its pending entries, each once."""
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
    """An unreadable entry is moved to the dead letters with its bytes and the reason."""
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
    """Return the raw fields of the dead letters."""
    rows: Any = await store.redis.xrange(store.keys.deadletters)
    return [fields for _, fields in rows]


@pytest.mark.parametrize("count", [1, 100, 10_000])
async def test_an_entry_of_many_unknown_fields_is_poison_like_any(
    store: Store, consumer: Consumer, count: int
) -> None:
    """An entry with very many fields is moved to the dead letters, and the loop continues."""
    await store.redis.xadd(store.keys.notices, {f"field{number}": "x" for number in range(count)})
    good = await put(store)
    assert [one.id for one in await consumer.new(0)] == [good]
    assert len(await raw_letters(store)) == 1


async def test_an_event_with_fields_of_a_later_version_is_read(store: Store, consumer: Consumer) -> None:
    """Unknown fields in an event are accepted."""
    key = await put(store, traceparent=b"00-abc")
    assert [one.id for one in await consumer.new(0)] == [key]


async def test_poison_that_was_left_unfinished_is_buried_too(store: Store, consumer: Consumer) -> None:
    """An unreadable entry that was pending with a dead member is moved only once."""
    await put(store, data=b"\xff")
    await consumer.new(0)
    bad = await put(store, data=b"\xff")
    await store.redis.xreadgroup(GROUP, consumer.name, {store.keys.notices: ">"})
    assert await consumer.unfinished() == []
    assert [row[b"entry"] for row in await raw_letters(store)][-1] == bad.encode()
    assert await pending(store) == 0


async def test_an_entry_that_was_deleted_while_pending_is_buried(store: Store, consumer: Consumer) -> None:
    """A pending entry that was trimmed becomes a dead letter without bytes."""
    key = await put(store)
    await consumer.new(0)
    await store.redis.xdel(store.keys.notices, key)
    assert await consumer.unfinished() == []
    assert await pending(store) == 0
    (letter,) = await deadletters(store)
    assert "trimmed" in letter.reason


async def test_a_dead_letter_that_is_replayed_comes_again(store: Store, consumer: Consumer) -> None:
    """A replayed dead letter is unchanged, and moved again if it is still unreadable."""
    await put(store, data=b"\xff")
    await consumer.new(0)
    (letter,) = await deadletters(store)
    assert await replay(store, letter.id)
    assert not await replay(store, letter.id)
    assert await consumer.new(0) == []
    (again,) = await raw_letters(store)
    assert again[b"raw:data"] == b"\xff"


async def test_a_group_that_was_lost_is_made_again(store: Store, consumer: Consumer) -> None:
    """After FLUSHALL the loop continues and reads new entries from the start."""
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
    """If Redis is wiped between reading and claiming pending entries, the loop continues."""

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
    """After FLUSHALL during a blocking read, the next entry is still read."""
    found: list[str] = []
    assert await consumer.new(0) == []

    async def read() -> None:
        while not found:
            found.extend(one.id for one in await consumer.new(5))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await pause(store, "xreadgroup")
            await store.redis.flushall()
            key = await put(store)
    assert found == [key]


async def test_a_read_that_redis_breaks_off_is_no_crash(store: Store, consumer: Consumer) -> None:
    """If a stream is deleted during a read (-UNBLOCKED), the next entry is still read."""
    found: list[str] = []
    assert await consumer.new(0) == []

    async def read() -> None:
        while not found:
            found.extend(one.id for one in await consumer.new(5))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await store.redis.client_unblock(await pause(store, "xreadgroup"), error=True)
            key = await put(store)
    assert found == [key]


async def test_what_a_dead_member_left_is_taken_over(store: Store, consumer: Consumer) -> None:
    """Entries of another member are claimed only after they were idle longer than any delivery takes."""
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
    """An entry that killed a member does not kill the one that claims it."""
    bad = await put(store, data=b"\xff")
    await store.redis.xgroup_create(store.keys.notices, GROUP, id="0")
    await store.redis.xreadgroup(GROUP, "died", {store.keys.notices: ">"})
    idle = round(CLAIM_AFTER * 1000) + 1
    await store.redis.xclaim(store.keys.notices, GROUP, "died", 0, [bad], idle=idle)
    assert await consumer.unfinished() == []
    assert await pending(store) == 0
    assert len(await raw_letters(store)) == 1


async def test_without_redis_it_says_so() -> None:
    """If Redis is down, every method raises StoreDown."""
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
