"""A consumer of another system: events to read, a member that handles them, and what is left of its group."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from support.eventually import eventually

from canhazgpu.events import Consumer, StreamEvent
from canhazgpu.events.envelope import Event
from canhazgpu.events.redis_client.store import Store

GROUP = "tickets"
BEGAN = 1_795_600_000_000


async def append(store: Store, first: int, last: int, **changes: bytes) -> list[str]:
    """Append events with these numbers to the stream `events`, in the service's form; return their ids."""
    pipe = store.redis.pipeline(transaction=False)
    for number in range(first, last + 1):
        event = Event(
            id=f"{BEGAN + number}-{number}",
            source=f"//{store.keys.host}/canhazgpu",
            type="canhazgpu.gpu.drained" if number % 2 else "canhazgpu.request.queued",
            subject=f"gpu/{number % 8}",
            time="2026-11-25T09:46:40.000Z",
            data={"gpu": number % 8},
        )
        fields: Any = {**event.to_fields(), **changes}
        pipe.xadd(store.keys.events, fields, id=f"{BEGAN + number}-{number}")
    return [key.decode() for key in await pipe.execute()]


def member(store: Store, **choices: Any) -> Consumer:
    """Return a member of the group on the stream `events`."""
    return Consumer(store.endpoint, host=store.keys.host, **{"group": GROUP, "name": "one", **choices})


@asynccontextmanager
async def running(
    consumer: Consumer, handle: Callable[[StreamEvent], Any]
) -> AsyncIterator[asyncio.Task[None]]:
    """Run it in a task; at the end it is cancelled, which takes much less than a read that blocks."""
    task = asyncio.ensure_future(consumer.run(handle))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait_for(asyncio.wait({task}), 20)


async def pending(store: Store) -> int:
    """Return how many entries were delivered to the group and not acknowledged."""
    about: Any = await store.redis.xpending(store.keys.events, GROUP)
    return int(about["pending"])


async def left_nothing(store: Store) -> None:
    """Wait until everything that was delivered is acknowledged."""

    async def empty() -> bool:
        return not await pending(store)

    await eventually(empty)


async def until_length(found: list[Any], count: int) -> None:
    """Wait until the list is so long."""

    async def long_enough() -> bool:
        return len(found) >= count

    await eventually(long_enough, 10)
