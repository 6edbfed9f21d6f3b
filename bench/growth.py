"""What one allocation costs as a host has more: the time of the script inside Redis, beside an empty script.

The time inside does not depend on the client, nor on the disk. Each part grows while the others stay.
"""

import asyncio
import statistics
from collections.abc import Iterator
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
GPUS, HELD, WAITING = 8, 4, 4
TIMES = (1, 4, 16)


class _Host:
    """A host in Redis with so many GPUs, of which some are held and the first is waited for."""

    def __init__(self, url: str, gpus: int) -> None:
        self._gpus = gpus
        self._store, self._operations = Store(url, "bench"), 0
        self._allocator = Allocator(Settings(), self._store)

    async def fill(self, held: int, waiting: int) -> None:
        scan = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(self._gpus)]
        await self._store.redis.flushall()
        await observe(self._store, scan, 1.0, 60.0)
        for index in range(held):
            await self._reserve(uid=2, gpus=(index,))
        for _ in range(waiting):
            await self._reserve(uid=3, gpus=(0,), wait=True)

    async def allocation(self) -> float:
        """Return the microseconds that Redis took to give a user a GPU."""
        await self._reserve(uid=1, count=1)
        took = await self._took()
        order = ReleaseOrder(uid=1, by="u", reason="released")
        await self._allocator.release(order, self._operation())
        for index in range(self._gpus):
            await self._store.redis.hdel(self._store.keys.gpu(index), "unseen")
        return took

    async def nothing(self) -> float:
        """Return what it took for an empty script with the same keys and arguments."""
        keys = self._store.keys
        names = [*host_keys(keys), keys.operation(1, "x"), *map(keys.gpu, range(self._gpus))]
        empty = "return 1 --" + "x" * (len(RESERVE.text) - 11)
        policy = AllocationPolicy.of(Settings()).text
        await self._store.redis.eval(empty, len(names), *names, "bench", policy, "{}")
        return await self._took()

    async def close(self) -> None:
        await self._store.close()

    async def _reserve(self, *, uid: int, **wanted: Any) -> None:
        ask = AllocationRequest(kind="manual", user=f"u{uid}", uid=uid, duration_ms=3600000, **wanted)
        await self._allocator.reserve(ask, self._operation())

    def _operation(self) -> str:
        self._operations += 1
        return f"o{self._operations}"

    async def _took(self) -> float:
        entries: Any = await self._store.redis.slowlog_get(4)
        return float(next(one["duration"] for one in entries if one["command"][:4] == b"EVAL"))


async def _one(url: str, gpus: int, held: int, waiting: int) -> str:
    host = _Host(url, gpus)
    await host.fill(held, waiting)
    taken = [await host.allocation() for _ in range(ROUNDS)]
    floor = [await host.nothing() for _ in range(ROUNDS)]
    await host.close()
    cost, empty = statistics.median(taken), statistics.median(floor)
    return (
        f"one of {gpus} GPUs, {held} held, {waiting} waiting: {cost:.0f} µs in Redis;"
        f" an empty script {empty:.0f} µs; ratio {cost / empty:.1f}"
    )


def measure() -> Iterator[str]:
    """Yield a line for each size: of the GPUs, the reservations and the queue."""
    sizes = [(GPUS * times, HELD, WAITING) for times in TIMES]
    sizes += [(GPUS * TIMES[-1], HELD * times, WAITING) for times in TIMES[1:]]
    sizes += [(GPUS * TIMES[-1], HELD, WAITING * times) for times in TIMES[1:]]
    with durable_redis(["--slowlog-log-slower-than", "0"]) as folder:
        for size in sizes:
            yield asyncio.run(_one(f"unix://{folder}/r", *size))
