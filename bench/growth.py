"""What one allocation costs as a host has more, beside an empty script with the same keys and arguments.

Two times of each: for the caller, and inside Redis. Neither waits for a disk. Of many, the bound of the
fastest tenth is taken, since other work on the machine only ever adds. One part of the host grows while the
others stay.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from bench.disk import durable_redis
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import RESERVE, AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

ROUNDS = 300
# GPUs, how many of them are reserved, and how many requests wait for the first.
SIZES = (
    *((gpus, 4, 4) for gpus in (8, 32, 64, 128)),
    *((128, held, 4) for held in (16, 64)),
    *((128, 4, waiting) for waiting in (16, 64)),
)
IN_MEMORY = ("--slowlog-log-slower-than", "0", "--appendfsync", "no")
Times = list[tuple[float, float]]


class _Host:
    """A host in Redis with so many GPUs, of which some are held and the first is waited for."""

    def __init__(self, url: str, gpus: int) -> None:
        self._gpus, self._operations = gpus, 0
        self._store = Store(url, "bench")
        self._allocator = Allocator(Settings(), self._store)
        keys = self._store.keys
        self._keys = [*host_keys(keys), keys.operation(1, "x"), *map(keys.gpu, range(gpus))]
        self._sha = ""

    async def fill(self, held: int, waiting: int) -> None:
        scan = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(self._gpus)]
        await self._store.redis.flushall()
        await observe(self._store, scan, 1.0, 60.0)
        for index in range(held):
            await self.reserve(uid=2, gpus=(index,))
        for _ in range(waiting):
            await self.reserve(uid=3, gpus=(0,), wait=True)
        empty = "return 1 --" + "x" * (len(RESERVE.text) - 11)
        self._sha = str(await self._store.redis.script_load(empty))

    async def reserve(self, *, uid: int = 1, **wanted: Any) -> None:
        ask = AllocationRequest(kind="manual", user=f"u{uid}", uid=uid, duration_ms=3600000, **wanted)
        await self._allocator.reserve(ask, self._operation())

    async def release(self) -> None:
        order = ReleaseOrder(uid=1, by="u", reason="released")
        await self._allocator.release(order, self._operation())
        for index in range(self._gpus):  # As if a scan had been since.
            await self._store.redis.hdel(self._store.keys.gpu(index), "unseen")

    async def nothing(self) -> None:
        args: list[str | bytes] = ["bench", AllocationPolicy.of(Settings()).text, "{}"]
        await self._store.redis.evalsha(self._sha, len(self._keys), *self._keys, *args)

    async def timed(self, action: Callable[[], Awaitable[None]]) -> tuple[float, float]:
        """Return the microseconds that the script took for the caller, and inside Redis."""
        began = time.perf_counter()
        await action()
        took = time.perf_counter() - began
        entries: Any = await self._store.redis.slowlog_get(4)
        inside = next(one["duration"] for one in entries if one["command"].startswith(b"EVALSHA"))
        return took * 1e6, float(inside)

    async def close(self) -> None:
        await self._store.close()

    def _operation(self) -> str:
        self._operations += 1
        return f"o{self._operations}"


def _fastest(times: Times) -> list[float]:
    return [sorted(part)[len(part) // 10] for part in zip(*times, strict=True)]


async def _one(url: str, gpus: int, held: int, waiting: int) -> str:
    host, allocations, floor = _Host(url, gpus), Times(), Times()
    await host.fill(held, waiting)
    for _ in range(ROUNDS):
        allocations.append(await host.timed(lambda: host.reserve(count=1)))
        floor.append(await host.timed(host.nothing))
        await host.release()
    await host.close()
    (cost, inside), (least, empty) = _fastest(allocations), _fastest(floor)
    return (
        f"1 of {gpus} GPUs, {held} held, {waiting} waiting: {cost:.0f} µs, in Redis {inside:.0f} µs;"
        f" an empty script {least:.0f} µs, in Redis {empty:.0f} µs; ratio {cost / least:.1f}"
    )


def measure() -> Iterator[str]:
    """Yield a line for each size: of the GPUs, the reservations and the queue."""
    with durable_redis(IN_MEMORY) as folder:
        for size in SIZES:
            yield asyncio.run(_one(f"unix://{folder}/r", *size))
