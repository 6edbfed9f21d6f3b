"""Streams that a test fills and reads, and what the product reports about consumer groups."""

import time
from typing import Any

from canhazgpu.events.envelope import decode
from canhazgpu.events.outbox import send_test
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store

SETTLE = Script("canhazgpu.workers", "settle")
DAY_MS = 86_400_000
GROUP = "billing"
FILL = """
for number = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], ARGV[3] .. '-' .. string.format('%.0f', ARGV[2] + number), 'data', ARGV[4])
end
"""


async def fill(store: Store, stream: str, count: int, first: int = 0, days: int = 1) -> None:
    """Append entries with the numbers after `first`, so many days ago."""
    ms = round(time.time() * 1000) - days * DAY_MS
    for begin in range(first, first + count, 5_000):
        chunk = min(5_000, first + count - begin)
        await store.redis.eval(FILL, 1, stream, str(chunk), str(begin), str(ms), "{}")


async def happens(store: Store, stream: str) -> None:
    """Let the product append one entry to a stream."""
    keys = store.keys
    if stream == "events":
        await send_test(store, "wall", None, "alice", 1)
        return
    names = [keys.sequence, keys.notices, keys.deliveries, keys.progress("wall"), keys.retries("wall")]
    args: list[str | bytes | int] = [keys.host, "wall", "0-0", "{}", "-1", "{}", "[]", '{"notice": "n1"}']
    await store.run(SETTLE, [*names, keys.delivered("wall"), keys.deadletters], args)


async def read(store: Store, stream: str, count: int, *, acknowledge: bool = True) -> list[int]:
    """Read as a member of the group; return the numbers of what came."""
    reply: Any = await store.redis.xreadgroup(GROUP, "reader", {stream: ">"}, count=count)
    ids = [key.decode() for key, _ in reply[0][1]] if reply else []
    if acknowledge and ids:
        await store.redis.xack(stream, GROUP, *ids)
    return [number_of(key) for key in ids]


def number_of(key: str) -> int:
    """The number of an entry."""
    return int(key.partition("-")[2])


async def numbers(store: Store, stream: str) -> tuple[int, int]:
    """The numbers of the first and the last entry of a stream."""
    first: Any = await store.redis.xrange(stream, count=1)
    last: Any = await store.redis.xrevrange(stream, count=1)
    return number_of(first[0][0].decode()), number_of(last[0][0].decode())


async def told(store: Store) -> list[dict[str, Any]]:
    """What the last events say of consumer groups."""
    rows: Any = await store.redis.xrevrange(store.keys.events, count=20)
    found = [decode(fields) for _, fields in reversed(rows) if b"type" in fields]
    return [
        {"verb": event.type.rpartition(".")[2], **event.data}
        for event in found
        if event.type.startswith("canhazgpu.consumer_group.")
    ]
