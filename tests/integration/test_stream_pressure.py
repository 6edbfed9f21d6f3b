"""Streams that use more memory than allowed while a consumer group reads them."""

import json
from typing import Any

import pytest

from canhazgpu.config.settings import Settings
from canhazgpu.config.streams import Streams
from canhazgpu.events.envelope import decode
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.storage.retention import MIB, Retention

pytestmark = pytest.mark.anyio
LIMIT = 16
FILL = """
for number = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], '*', 'data', string.rep('x', 1000) .. number)
end
"""


def keeper(store: Store) -> Retention:
    """Return retention with little memory."""
    return Retention(Settings(host=store.keys.host, streams=Streams(memory_mb=LIMIT)), store)


async def fill(store: Store, megabytes: int) -> None:
    """Append entries of about this size in total."""
    for _ in range(megabytes):
        await store.redis.eval(FILL, 1, store.keys.violations, 850)


async def read(store: Store, group: str, count: int = 1) -> int:
    """Read and acknowledge some entries; return how many."""
    key = store.keys.violations
    reply: Any = await store.redis.xreadgroup(group, "one", {key: ">"}, count=count)
    entries = [entry for _, rows in reply for entry, _ in rows]
    if entries:
        await store.redis.xack(key, group, *entries)
    return len(entries)


async def told(store: Store) -> list[str]:
    """Return the abandoned and resumed groups, in the order of events."""
    rows: Any = await store.redis.xrange(store.keys.events)
    events = [decode(fields) for _, fields in rows]
    return [f"{one.data['group']} {one.type.rpartition('.')[2]}" for one in events]


async def used(store: Store) -> int:
    """Return the memory of the stream, as Redis counts it."""
    return int(await store.redis.memory_usage(store.keys.violations) or 0)


async def join(store: Store, *groups: str) -> None:
    """Create groups at the start of the stream."""
    for group in groups:
        await store.redis.xgroup_create(store.keys.violations, group, id="0", mkstream=True)


async def test_who_reads_is_given_until_the_next_turn(store: Store) -> None:
    """A burst abandons groups that do not read; one that reads gets one turn to catch up."""
    await join(store, "idle", "slow")
    await fill(store, LIMIT + 8)
    await read(store, "slow")
    kept = keeper(store)
    await kept.trim_all()
    assert await told(store) == ["idle abandoned"]
    assert await used(store) > LIMIT * MIB
    await read(store, "slow")
    await kept.trim_all()
    assert await told(store) == ["idle abandoned", "slow abandoned"]
    assert await used(store) <= LIMIT * MIB


async def test_who_catches_up_loses_nothing(store: Store) -> None:
    """What the group has read by the next turn is trimmed."""
    await join(store, "fast")
    await fill(store, LIMIT + 8)
    await read(store, "fast")
    kept = keeper(store)
    await kept.trim_all()
    while await read(store, "fast", 1000):
        pass
    await kept.trim_all()
    assert await told(store) == []
    assert await used(store) <= LIMIT * MIB


async def test_who_reads_while_room_is_made_does_not_come_back_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above twice the bound no group gets a turn; each is abandoned once, and the bound is kept."""
    await join(store, "log", "dispatcher")
    await fill(store, 3 * LIMIT)
    kept, call = keeper(store), store.run

    async def reading(*args: Any) -> Any:
        for group in ("log", "dispatcher"):
            await read(store, group)
        return await call(*args)

    monkeypatch.setattr(store, "run", reading)
    await kept.trim_all()
    assert sorted(await told(store)) == ["dispatcher abandoned", "log abandoned"]
    assert await used(store) <= LIMIT * MIB


async def test_who_reads_on_is_active_again_after_a_minute(store: Store) -> None:
    """A resumed group loses nothing more; the number of entries that it missed is unknown."""
    await join(store, "slow")
    await fill(store, 3 * LIMIT)
    kept = keeper(store)
    await kept.trim_all()
    await read(store, "slow")
    await kept.trim_all()
    assert await told(store) == ["slow abandoned"]
    field, name = store.keys.consumers, "violations/slow"
    text: Any = await store.redis.hget(field, name)
    await store.redis.hset(field, name, json.dumps(json.loads(text) | {"until_ms": 1000}))
    await read(store, "slow")
    await kept.trim_all()
    assert await told(store) == ["slow abandoned", "slow resumed"]
    rows: Any = await store.redis.xrevrange(store.keys.events, count=1)
    assert decode(rows[0][1]).data.get("missing") is None
