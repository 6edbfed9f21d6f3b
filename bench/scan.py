"""What one scan costs Redis: commands, and time against a PING."""

import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from bench.host import service
from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe

ROUNDS = 500
GPUS = 8


def _usages() -> list[GpuUsage]:
    return [
        GpuUsage(
            index=index,
            uuid=f"GPU-{index}",
            name="NVIDIA H100 80GB HBM3",
            in_use=True,
            memory_mb=1024,
            users=("bob",),
            processes=(
                ProcessUse(
                    pid=1000 + index, name="python3", user="bob", person="bob", uid=1001, memory_mb=1024
                ),
            ),
        )
        for index in range(GPUS)
    ]


async def _median(call: Callable[[], Awaitable[Any]]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def _measure(url: str) -> list[str]:
    store = Store(url, f"bench-{uuid.uuid4().hex[:8]}")
    usages = _usages()
    try:
        await observe(store, usages, 3600, 3600)  # From here on nothing changes.
        before: Any = await store.redis.info("stats")
        scan = await _median(lambda: observe(store, usages, 3600, 3600))
        after: Any = await store.redis.info("stats")
        ping = await _median(store.redis.ping)
        length = await store.redis.xlen(store.keys.events)
        await observe(store, usages, 3600, 3600)
        grown = await store.redis.xlen(store.keys.events) - length
    finally:
        await store.close()
    sent = (after["total_net_input_bytes"] - before["total_net_input_bytes"]) / ROUNDS
    return [
        (
            f"unchanged scan of {GPUS} busy GPUs: 1 round trip, {scan * 1000:.2f} ms,"
            f" {sent / 1000:.1f} kB sent, {grown} events;"
            f" a PING {ping * 1000:.2f} ms: ratio {scan / ping:.1f}"
        )
    ]


def measure() -> list[str]:
    """Return a line with the cost of a scan in which nothing changed."""
    with service() as (folder, _):
        return anyio.run(_measure, f"unix://{folder}/state/redis/redis.sock")
