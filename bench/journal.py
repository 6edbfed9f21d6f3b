"""What the journal costs a grant, and how long it takes to put back what a wiped Redis has lost."""

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from bench.allocate import spread
from bench.disk import durable_redis
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.journal_copy import open_journal

GPUS = 64
ROUNDS = 15  # Of 64 grants, with the journal and without by turns: both see the same machine.
WIPES = 20
SCAN = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(GPUS)]
ASK = AllocationRequest(kind="manual", user="u", uid=1, count=1, duration_ms=3_600_000)
ORDER = ReleaseOrder(uid=1, by="u", reason="released")


async def _grants(allocator: Allocator, store: Store, name: str) -> list[float]:
    """Hand out all GPUs, one at a time; return how long each took."""
    await allocator.release(ORDER, f"release-{name}")
    await observe(store, SCAN, 1.0, 60.0)
    times = []
    for turn in range(GPUS):
        began = time.perf_counter()
        await allocator.reserve(ASK, f"{name}-{turn}")
        times.append(time.perf_counter() - began)
    return times


async def _measure(folder: Path) -> list[str]:
    store = Store(f"unix://{folder}/r", "bench")
    bare, kept = Allocator(Settings(), store), Allocator(Settings(), store)
    await observe(store, SCAN, 1.0, 60.0)
    reconciler = Reconciler(store, open_journal(str(folder), str(folder / "s")))
    await reconciler.start()
    await reconciler.sync()
    kept.begin = reconciler.begin
    without: list[float] = []
    with_it: list[float] = []
    for turn in range(ROUNDS):
        without += await _grants(bare, store, f"bare-{turn}")
        await reconciler.sync()
        with_it += await _grants(kept, store, f"kept-{turn}")
    more = statistics.median(with_it) - statistics.median(without)
    ratio = statistics.median(with_it) / statistics.median(without)
    wipes = await _wipes(store, lambda: observe(store, SCAN, 1.0, 60.0))
    await store.close()
    return [
        f"one grant without a journal: {spread(without)}",
        f"the same with the journal: {spread(with_it)}; {more * 1000:.2f} ms more, ratio {ratio:.2f}",
        f"a scan that finds Redis wiped, until {GPUS} reservations are back: {spread(wipes)}",
    ]


async def _wipes(store: Store, scan: Callable[[], Awaitable[object]]) -> list[float]:
    """Wipe Redis again and again; return how long each scan took that repairs it."""
    times = []
    for _ in range(WIPES):
        await store.redis.flushall()
        began = time.perf_counter()
        await scan()
        times.append(time.perf_counter() - began)
        if await store.redis.hlen(store.keys.reservations) != GPUS:
            raise RuntimeError("a reservation was not put back")
    return times


def measure() -> list[str]:
    """Return lines about the journal, on a Redis that is as durable as the service's own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with durable_redis() as folder:
        return asyncio.run(_measure(folder))
