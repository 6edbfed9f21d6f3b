"""Reads the events of a period from the streams."""

from typing import Any

from canhazgpu.events.envelope import Event, Undecodable, decode
from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.workers.dispatch.digest import Material

PAGE = 500


async def material(store: Store, since_ms: int) -> Material:
    """Return the input for a digest since `since_ms`. Raises StoreDown."""
    keys = store.keys
    opened: Any = await store.ask(store.redis.hgetall(keys.open))
    return Material(
        violations=await _read(store, keys.violations, since_ms),
        notices=await _read(store, keys.notices, since_ms),
        deliveries=await _read(store, keys.deliveries, since_ms),
        events=await _read(store, keys.events, since_ms),
        open=open_violations(opened),
    )


async def _read(store: Store, stream: str, since_ms: int) -> list[Event]:
    found: list[Event] = []
    start, begin = str(since_ms), rfc3339(since_ms)
    while True:
        page: Any = await store.ask(store.redis.xrange(stream, start, "+", count=PAGE))
        for _, fields in page:
            try:
                event = decode(fields)
            except Undecodable:  # Its consumer moves it to the dead letters.
                continue
            if event.time >= begin:
                found.append(event)
        if len(page) < PAGE:
            return found
        start = "(" + page[-1][0].decode()
