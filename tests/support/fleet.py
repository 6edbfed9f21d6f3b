"""A fleet's Redis, a host's mirror to it, and how both are compared."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from support.redis_lab import DURABLE, Server

from canhazgpu.config.integrations.fleet import Fleet
from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.fleet_copy import CopiedState, CopyState, encode_state
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.fleet.mirror_reader import HostCopy, open_mirror
from canhazgpu.workers.fleet.mirror import Mirror

STREAMS = ("events", "violations", "ledger", "notices", "deliveries")
USAGE = b'{"index":0,"uuid":"GPU-0","name":"H100","state":"ok"}'


@contextmanager
def fleet_server(folder: Path, *words: str) -> Iterator[Server]:
    """Run a Redis for the fleet."""
    server = Server(folder, *DURABLE, *words)
    try:
        yield server
    finally:
        server.close()


def settings_of(host: str, url: str, interval: float) -> Settings:
    """Return the settings of a host in a fleet."""
    return Settings(host=host, fleet=Fleet(url=url, interval=interval))


@asynccontextmanager
async def mirroring(store: Store, url: str, interval: float = 0.2) -> AsyncIterator[None]:
    """Run the worker of a host while the block lasts."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(Mirror(settings_of(store.keys.host, url, interval), store).run)
        yield
        tasks.cancel_scope.cancel()


async def put(url: str, host: str, **values: Any) -> None:
    """Put a host with one idle GPU into the mirror, with other values of its state where they are given."""
    store = Store(url, host)
    await store.redis.set(store.keys.fleet_state, encode_state(state_of(await store.now_ms(), **values)))
    await store.close()


def state_of(now_ms: int, **values: Any) -> CopiedState:
    """Return a state that was copied now."""
    state = CopiedState(
        copy=CopyState(seen_ms=now_ms, at_ms=now_ms, interval_ms=60_000, scan_interval_ms=1000),
        scan={b"at_ms": b"%d" % now_ms},
        open={},
        reservations={},
        queue={},
        silences={},
        gpus={0: {b"usage": USAGE}},
    )
    return msgspec.structs.replace(state, **values)


async def read(url: str, past: str = "") -> list[HostCopy]:
    """Return all copies, as the service of a host reads them."""
    async with open_mirror(Endpoint(url=url), "reader") as mirror:
        return [copy async for copy in mirror.copies(await mirror.hosts(), past)]


async def append(
    store: Store, stream: str, count: int, start: int = 1, at_ms: int = 1_800_000_000_000
) -> None:
    """Append entries to a stream as the scripts number them."""
    async with store.redis.pipeline(transaction=False) as pipe:
        for number in range(start, start + count):
            fields: Any = {b"id": f"e{number}".encode(), b"data": b"\xff\x00 not UTF-8 %d" % number}
            pipe.xadd(store.keys.streams[stream], fields, id=f"{at_ms + number // 3}-{number}")
        await pipe.execute()


async def entries(client: Any, stream: str) -> list[Any]:
    """Return all entries of a stream as they are."""
    return list(await client.xrange(stream))
