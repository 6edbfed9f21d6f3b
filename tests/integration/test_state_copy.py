"""A copy is a consistent snapshot, whatever happens while it is made."""

from pathlib import Path
from typing import Any

import pytest
from support.redis_lab import DURABLE, Server
from support.reservations import Lab

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.backup.state_copy import Stage, names, read_snapshot, sizes

pytestmark = pytest.mark.anyio


async def group(store: Store) -> tuple[Any, Any]:
    """Return the position and the pending entries of the events' group."""
    groups: Any = await store.redis.xinfo_groups(store.keys.events)
    pending: Any = await store.redis.xpending_range(store.keys.events, "g", "-", "+", 100)
    return groups[0]["last-delivered-id"], [(one["message_id"], one["consumer"]) for one in pending]


async def read(store: Store) -> Any:
    """Read one event as a member of the group; return its id."""
    rows: Any = await store.redis.xreadgroup("g", "w", {store.keys.events: ">"}, count=1)
    return rows[0][1][0][0]


async def test_what_changes_meanwhile_is_all_in_it_or_not_at_all(store: Store, tmp_path: Path) -> None:
    """Changes after the streams were copied are in the copy too."""
    lab, keys = Lab(store), store.keys
    await store.redis.xgroup_create(keys.events, "g", id="0", mkstream=True)
    first = await lab.reserve()
    acknowledged = await read(store)
    server = Server(tmp_path, *DURABLE)
    other = Store(f"redis://127.0.0.1:{server.port}", keys.host)
    try:
        stage = Stage(other)
        copying = read_snapshot(store)
        events = await anext(copying)
        assert events.name == "events"
        second = await lab.reserve(gpus=(1,))
        await store.redis.xack(keys.events, "g", acknowledged)
        await read(store)
        for record in [events, *[one async for one in copying]]:
            await stage.put(record)
            assert await names(other) == []
        await stage.commit()
        held: Any = await other.redis.hkeys(keys.reservations)
        assert {name.decode() for name in held} == {first, second}
        assert await sizes(other) == await sizes(store)
        assert await group(other) == await group(store)
        entries: list[Any] = [await one.redis.xrange(keys.events) for one in (store, other)]
        assert entries[0] == entries[1]
    finally:
        await other.close()
        server.close()
