"""The memory of the streams is bounded, doctor shows it, and a Cluster separates it by host."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.daemon import Daemon
from support.eventually import until
from support.redis import redis_binary

from canhazgpu.config.settings import Settings
from canhazgpu.config.streams import Consumers, Streams
from canhazgpu.events.envelope import decode
from canhazgpu.events.outbox import send_test
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.storage.retention import LEAST, MIB, Retention

GROUP = "billing"
FILL = """
for number = 1, 10000 do
  redis.call('XADD', KEYS[1], '*', 'data', string.rep('x', 1000) .. number)
end
"""


def keeper(store: Store, memory_mb: int = 16) -> Retention:
    """Return retention with little memory."""
    return Retention(Settings(host=store.keys.host, streams=Streams(memory_mb=memory_mb)), store)


async def used(store: Store) -> int:
    """Return the memory of the streams, as Redis counts it."""
    return sum([await store.redis.memory_usage(key) or 0 for key in store.keys.streams.values()])


async def abandoned(store: Store) -> list[tuple[str, str]]:
    """Return the last abandoned groups, with the reason."""
    rows: Any = await store.redis.xrevrange(store.keys.events, count=20)
    found = [decode(fields) for _, fields in reversed(rows) if b"type" in fields]
    return [(one.data["group"], one.data["reason"]) for one in found if one.type.endswith("abandoned")]


@pytest.mark.anyio
async def test_above_the_bound_the_oldest_entries_of_the_largest_stream_go(store: Store) -> None:
    """Streams without readers are within the bound after one trimming; smaller ones lose nothing."""
    await send_test(store, "wall", None, "alice", 1)
    for _ in range(4):
        await store.redis.eval(FILL, 1, store.keys.violations)
    kept = keeper(store)
    assert await used(store) > 32 * MIB
    await kept.trim_all()
    assert 12 * MIB < await used(store) <= 16 * MIB
    assert await store.redis.xlen(store.keys.notices) == 1
    assert kept.report
    assert kept.report.bytes <= kept.report.limit_bytes == 16 * MIB


@pytest.mark.anyio
async def test_above_the_bound_the_group_furthest_behind_is_abandoned(store: Store) -> None:
    """If memory runs out, a group that is far behind is abandoned; one that is near continues."""
    key = store.keys.violations
    for name in (GROUP, "near"):
        await store.redis.xgroup_create(key, name, id="0", mkstream=True)
    for _ in range(4):
        await store.redis.eval(FILL, 1, key)
    place: Any = await store.redis.xrevrange(key, count=2000)
    await store.redis.xgroup_setid(key, "near", place[-1][0])
    kept = keeper(store)
    await kept.trim_all()
    assert await used(store) <= 16 * MIB
    assert await abandoned(store) == [(GROUP, "memory")]
    reply: Any = await store.redis.xreadgroup("near", "one", {key: ">"}, count=10_000)
    assert len(reply[0][1]) == 1999


@pytest.mark.anyio
async def test_within_the_bound_no_group_is_abandoned_however_far_behind(store: Store) -> None:
    """While there is memory, no group is abandoned."""
    key = store.keys.violations
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    for _ in range(4):
        await store.redis.eval(FILL, 1, key)
    await keeper(store, memory_mb=64).trim_all()
    assert await abandoned(store) == []
    assert await store.redis.xlen(key) == 40_000


@pytest.mark.anyio
async def test_however_little_room_there_is_the_last_entries_stay(store: Store) -> None:
    """If entries are larger than the bound, the most recent ones are kept all the same."""
    big = "for number = 1, 2000 do redis.call('XADD', KEYS[1], '*', 'data', string.rep('x', 30000)) end"
    await store.redis.eval(big, 1, store.keys.violations)
    await keeper(store).trim_all()
    assert await store.redis.xlen(store.keys.violations) == LEAST


def test_doctor_shows_memory_and_abandoned_groups(folder: Path) -> None:
    """Doctor names a group that is not read, with a remedy, and the memory with its bound."""
    daemon = Daemon(folder, '[consumers]\nabandon_after = "1s"\n').start()
    try:
        client, key = daemon.redis(), "canhazgpu:{testhost}:violations"
        client.xgroup_create(key, GROUP, id="0", mkstream=True)
        client.xadd(key, {"data": "{}"})
        client.hset(Keys("testhost").consumers, f"violations/{GROUP}", '{"at_ms": 1000, "place": "0-0 0 "}')
        client.close()
        daemon.stop()
        daemon.start()
        until(lambda: "is abandoned" in daemon.run("doctor").stdout, 20)
        said = daemon.run("doctor").stdout
    finally:
        daemon.stop()
    assert "MiB of 512 MiB; entries: events " in said
    assert f"the group {GROUP} on violations is abandoned: it was last read at 1970-01-01" in said
    assert f"XGROUP DESTROY '{key}' '{GROUP}'" in said
    assert "it is 1 entry behind" in said


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis in cluster mode, which refuses scripts with keys in several slots."""
    folder = tmp_path_factory.mktemp("cluster")
    words = ["--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen([redis_binary(), *words, "--cluster-enabled", "yes"], stdout=subprocess.DEVNULL)
    client: Any = Redis(unix_socket_path=str(folder / "s"))

    def ready() -> bool:
        try:
            return bool(client.execute_command("CLUSTER", "INFO"))
        except RedisError:
            return False

    until(ready, 10)
    client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
    until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), 30)
    client.close()
    yield f"unix://{folder / 's'}"
    server.terminate()
    server.wait()


@pytest.fixture
async def clustered(cluster_url: str) -> AsyncIterator[list[Store]]:
    """Some hosts in that cluster."""
    stores = [Store(cluster_url, f"host-{number}") for number in range(3)]
    yield stores
    for one in stores:
        await one.close()


@pytest.mark.anyio
async def test_every_key_of_a_host_is_in_one_slot_of_a_cluster(clustered: list[Store]) -> None:
    """Retention works in a Cluster with hosts in different slots."""
    for store in clustered:
        await store.redis.xgroup_create(store.keys.violations, GROUP, id="0", mkstream=True)
        await send_test(store, "wall", None, "alice", 1)
        kept = Retention(Settings(host=store.keys.host, consumers=Consumers(abandon_after=1.0)), store)
        await kept.trim_all()
        assert kept.report
        assert [one.group for one in kept.report.groups] == [GROUP]
    slots = []
    for store in clustered:
        names: Any = [key async for key in store.redis.scan_iter(store.keys.prefix.replace("{", "\\{") + "*")]
        assert len(names) >= 4
        ask: Any = store.redis.execute_command
        found = {await ask("CLUSTER", "KEYSLOT", name) for name in names}
        (slot,) = found
        slots.append(slot)
    assert len(set(slots)) == 3
