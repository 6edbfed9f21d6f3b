"""The worker that copies a host to the fleet's Redis, between two real servers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis.exceptions import RedisError
from support.eventually import eventually
from support.fleet import STREAMS, append, entries, fleet_server, mirroring
from support.redis_lab import Server

from canhazgpu.events.redis_client.fleet_copy import decode_state
from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio
MANY = 450  # More than two batches.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fleet's Redis."""
    with fleet_server(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture
async def fleet(server: Server, store: Store) -> AsyncIterator[Store]:
    """The copy of the host, as its readers see it."""
    made = Store(f"redis://127.0.0.1:{server.port}", store.keys.host)
    yield made
    await made.close()


def url(fleet: Store) -> str:
    """Return the address of the fleet's Redis."""
    return fleet.endpoint.url


async def same(store: Store, fleet: Store, stream: str) -> bool:
    """Return whether a stream and its copy are equal, and not empty."""
    key = store.keys.streams[stream]
    ours = await entries(store.redis, key)
    return bool(ours) and ours == await entries(fleet.redis, key)


async def test_streams_are_copied_byte_for_byte(store: Store, fleet: Store) -> None:
    """Old and new entries of all streams have the same ids and the same bytes in the copy."""
    for stream in STREAMS:
        await append(store, stream, MANY)
    async with mirroring(store, url(fleet)):
        for stream in STREAMS:
            await eventually(lambda name=stream: same(store, fleet, name), 60)  # type: ignore[misc]
        for stream in STREAMS:
            await append(store, stream, 3, MANY + 1)
        for stream in STREAMS:
            await eventually(lambda name=stream: same(store, fleet, name), 60)  # type: ignore[misc]


async def test_the_state_is_copied(store: Store, fleet: Store) -> None:
    """Hashes and the list of GPUs are equal, and what is gone on the host goes in the copy."""
    keys = store.keys
    await store.redis.zadd(keys.gpus, {"0": 0, "1": 1, "10": 10})
    for key, fields in {
        keys.gpu(0): {"usage": "{}", "holder": "r1"},
        keys.gpu(1): {"usage": b"\xff"},
        keys.gpu(10): {"usage": "{}"},
        keys.reservations: {"r1": "{}", "r2": "{}"},
        keys.scan: {"at_ms": "7", "owner": "machine boot 1.2"},
    }.items():
        mapping: Any = fields
        await store.redis.hset(key, mapping=mapping)

    async def copied(*gpus: int) -> bool:
        value: Any = await fleet.redis.get(keys.fleet_state)
        if value is None:
            return False
        state = decode_state(value)
        names = [keys.reservations, keys.scan, keys.queue, *map(keys.gpu, gpus)]
        ours: Any = [await store.redis.hgetall(name) for name in names]
        return bool(ours == [state.reservations, state.scan, state.queue, *state.gpus.values()])

    async with mirroring(store, url(fleet)):
        await eventually(lambda: copied(0, 1, 10), 60)
        await store.redis.hdel(keys.reservations, "r1")
        await store.redis.delete(keys.gpu(1))
        await store.redis.zrem(keys.gpus, "1")
        await eventually(lambda: copied(0, 10), 60)


async def test_a_copy_that_was_lost_is_made_again(store: Store, fleet: Store) -> None:
    """If the fleet's Redis loses a stream, everything that the host still has is copied again."""
    await append(store, "events", 10)
    async with mirroring(store, url(fleet)):
        await eventually(lambda: same(store, fleet, "events"), 60)
        await fleet.redis.delete(store.keys.events)
        await append(store, "events", 1, 11)
        await eventually(lambda: same(store, fleet, "events"), 60)


async def test_a_mirror_that_restarts_empty_is_filled_without_a_new_event(
    store: Store, tmp_path: Path
) -> None:
    """If the fleet's Redis has lost everything, the streams are copied again, also those that are quiet."""
    for stream in STREAMS:
        await append(store, stream, 10)
    with fleet_server(tmp_path, "--appendonly", "no") as server:
        fleet = Store(f"redis://127.0.0.1:{server.port}", store.keys.host)

        async def complete() -> bool:
            try:
                return all([await same(store, fleet, stream) for stream in STREAMS])
            except RedisError:
                return False

        async with mirroring(store, url(fleet), interval=3):  # It restarts between two looks.
            await eventually(complete, 60)
            server.kill()
            server.start()
            await eventually(complete, 60)
        await fleet.close()


async def test_two_workers_copy_nothing_twice_and_miss_nothing(store: Store, fleet: Store) -> None:
    """Two workers of one host copy the same stream without a gap or a double entry."""
    async with mirroring(store, url(fleet)), mirroring(store, url(fleet)):
        for start in range(1, 2000, 100):
            await append(store, "events", 100, start)
        await eventually(lambda: same(store, fleet, "events"), 60)
    assert len(await entries(fleet.redis, store.keys.events)) == 2000


async def test_entries_that_were_removed_before_they_were_copied_are_counted(
    store: Store, fleet: Store
) -> None:
    """A gap in the copy is told with the number of entries, once, and the copy goes on after it."""
    await append(store, "events", 10)
    async with mirroring(store, url(fleet)):
        await eventually(lambda: same(store, fleet, "events"), 60)
    await append(store, "events", 30, 11)
    await store.redis.xtrim(store.keys.events, minid="1800000000011-33", approximate=False)
    for number in (41, 42):
        async with mirroring(store, url(fleet)):
            last = (await entries(store.redis, store.keys.events))[-1]

            async def arrived(last: Any = last) -> bool:
                return (await entries(fleet.redis, store.keys.events))[-1:] == [last]

            await eventually(arrived, 60)
        await append(store, "events", 1, number)
    facts: Any = await fleet.redis.hgetall(store.keys.fleet)
    assert facts[b"missing:events"] == b"22"  # From 11 to 32.
    value: Any = await fleet.redis.get(store.keys.fleet_state)
    assert decode_state(value).missing == {"events": 22}


async def test_the_host_keeps_what_was_not_copied(store: Store, fleet: Store) -> None:
    """The group `fleet` stands where the copy ends, so that retention keeps what comes after it."""
    await append(store, "events", 10)

    async def copied_to() -> bool:
        groups: Any = await store.redis.xinfo_groups(store.keys.events)
        return [(one["name"], one["last-delivered-id"]) for one in groups] == [
            (b"fleet", b"1800000000003-10")
        ]

    async with mirroring(store, url(fleet)):
        await eventually(copied_to, 60)


async def test_the_copy_loses_what_the_host_has_removed(store: Store, fleet: Store) -> None:
    """Entries that the host trims are trimmed in the copy too."""
    await append(store, "events", 100)
    async with mirroring(store, url(fleet)):
        await eventually(lambda: same(store, fleet, "events"), 60)
    await store.redis.xtrim(store.keys.events, minid="1800000000020-60", approximate=False)
    async with mirroring(store, url(fleet)):
        await eventually(lambda: same(store, fleet, "events"), 60)


async def test_the_own_redis_is_never_taken_for_the_fleets(store: Store, redis_url: str) -> None:
    """If fleet.url leads to the host's own Redis, the state is not touched."""
    await store.redis.hset(store.keys.reservations, "r1", "{}")

    async def probed() -> bool:
        return bool(await store.redis.exists(store.keys.fleet))

    async with mirroring(store, redis_url):
        await eventually(probed, 60)
        await anyio.wait_all_tasks_blocked()
    assert await store.redis.hgetall(store.keys.reservations) == {b"r1": b"{}"}
    assert not await store.redis.hexists(store.keys.fleet, "state")
    assert not await store.redis.exists(store.keys.fleet_state)


async def test_trouble_in_the_fleet_ends_nothing(store: Store, fleet: Store) -> None:
    """A key of the wrong kind stops the copy until it is gone, and nothing else."""
    await fleet.redis.set(store.keys.events, "not a stream")
    await append(store, "events", 3)
    async with mirroring(store, url(fleet)):

        async def probed() -> bool:
            return bool(await fleet.redis.exists(store.keys.fleet))

        await eventually(probed, 60)
        await fleet.redis.delete(store.keys.events)
        await eventually(lambda: same(store, fleet, "events"), 60)
