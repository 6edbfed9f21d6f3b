"""Workers on a real Redis whose state belongs to another machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from support.eventually import eventually

from canhazgpu.events.envelope import Event
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.workers.consumer import Consumer, Entry
from canhazgpu.workers.state_owner import check_owner

pytestmark = pytest.mark.anyio
GROUP = "log"
OURS, CLONES, OTHERS = "aa 11", "aa 22 7.7", "bb 33 7.7"
EVENT = Event(
    id="1-1", source="//h/canhazgpu", type="canhazgpu.gpu.changed", subject="gpu/0", time="t", data={}
)


async def put(store: Store, owner: str) -> None:
    """Append an entry at the moment at which the state gets another owner."""
    fields: Any = EVENT.to_fields()
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.hset(store.keys.scan, "owner", owner)
        pipe.xadd(store.keys.notices, fields)
        await pipe.execute()


async def pending(store: Store) -> int:
    """Return the number of delivered and unacknowledged entries."""
    about: Any = await store.redis.xpending(store.keys.notices, GROUP)
    return int(about["pending"])


async def refused(store: Store, words: str) -> None:
    """Wait until the worker says why it waits."""

    async def said() -> bool:
        return words in str(store.trouble)

    await eventually(said)


@asynccontextmanager
async def working(store: Store) -> AsyncIterator[list[str]]:
    """A running member of the group, and the entries that it took."""
    consumer, taken = Consumer(store, store.keys.notices, GROUP), list[str]()

    async def take(entries: list[Entry]) -> None:
        for entry in entries:
            taken.append(entry.id)
            await consumer.acknowledge(entry.id)

    async def due() -> float:
        return 30.0

    async with anyio.create_task_group() as tasks:
        await tasks.start(consumer.run, take, due)
        yield taken
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("owner", "words"),
    [(CLONES, "another boot of this machine, or of a clone"), (OTHERS, "another machine (bb)")],
)
async def test_nothing_is_taken_from_anothers_stream(store: Store, owner: str, words: str) -> None:
    """The worker does not join the group of another machine, and says why; later it continues."""
    store.owner = OURS
    await put(store, owner)
    async with working(store) as taken:
        await refused(store, words)
        groups: Any = await store.redis.xinfo_groups(store.keys.notices)
        assert (taken, groups) == ([], [])
        await store.redis.hset(store.keys.scan, "owner", f"{OURS} 5.5")
        await eventually(lambda: _has(taken, 1))
        await eventually(lambda: _pending(store, 0))


async def test_what_was_read_as_the_state_became_anothers_is_left(store: Store) -> None:
    """If the owner changes, an entry is neither handled nor acknowledged here."""
    store.owner = OURS
    await store.redis.hset(store.keys.scan, "owner", f"{OURS} 5.5")
    async with working(store) as taken:

        async def blocked() -> bool:
            clients: Any = await store.redis.client_list()
            return any("b" in one["flags"] and one["cmd"] == "xreadgroup" for one in clients)

        await eventually(blocked)
        await put(store, OTHERS)
        await refused(store, "another machine (bb)")
        await eventually(lambda: _pending(store, 1))
        assert taken == []
        await store.redis.hset(store.keys.scan, "owner", f"{OURS} 5.5")
        await eventually(lambda: _has(taken, 1))
        await eventually(lambda: _pending(store, 0))


async def _pending(store: Store, count: int) -> bool:
    return await pending(store) == count


async def _has(taken: list[str], count: int) -> bool:
    return len(taken) == count


async def test_nothing_is_acknowledged_in_anothers_state(store: Store) -> None:
    """Entries that were taken before the change stay pending for the other machine."""
    store.owner = OURS
    await put(store, f"{OURS} 5.5")
    consumer = Consumer(store, store.keys.notices, GROUP)
    (entry,) = await consumer.new(0)
    await store.redis.hset(store.keys.scan, "owner", OTHERS)
    with pytest.raises(StoreDown, match=r"another machine \(bb\)"):
        await consumer.acknowledge(entry.id)
    assert await pending(store) == 1
    await consumer.close()


@pytest.mark.parametrize("owner", [f"{OURS} 5.5", f"{OURS} 6.6"])
async def test_the_service_may_be_another_process(store: Store, owner: str) -> None:
    """A separate worker checks machine and boot, a worker in the service checks the service."""
    await store.redis.hset(store.keys.scan, "owner", owner)
    await check_owner(store)  # Who names no owner asks for none.
    store.owner = OURS
    await check_owner(store)
    store.owner = f"{OURS} 5.5"
    if owner == store.owner:
        await check_owner(store)
    else:
        with pytest.raises(StoreDown):
            await check_owner(store)


async def test_a_state_that_nobody_claimed_is_waited_for(store: Store) -> None:
    """State without an owner, as after a wipe, is not consumed."""
    store.owner = OURS
    with pytest.raises(StoreDown, match="is `canhazgpu serve` running"):
        await check_owner(store)
