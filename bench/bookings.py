"""What bookings cost: the CPU time of Redis for one allocation, beside how many are promised."""

import asyncio
import time
from collections.abc import Iterator

from bench.disk import durable_redis
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.bookings.bookings import BookingRequest, Bookings
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import RESERVE, AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder

GPUS = 8
ROUNDS = 150
COUNTS = (0, 10, 100, 1000)
HOUR = 3_600_000
# A request that ends before all bookings, and one without an end, which meets them all.
REQUESTS = {"one that ends before them": HOUR, "one without an end": None}


class _Host:
    """A host whose Redis counts the time that a script takes."""

    def __init__(self, url: str) -> None:
        self.store = Store(url, "bench")
        self.allocator = Allocator(Settings(), self.store)
        self.bookings = Bookings(self.store, self.allocator)
        self.scan = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(GPUS)]

    async def spent(self) -> tuple[int, int]:
        """Return how many scripts were called, and the microseconds that they took."""
        found = await self.store.redis.info("commandstats")
        one = found.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
        return one["calls"], one["usec"]

    async def allocation(self, lasts_ms: int | None) -> float:
        """Return the microseconds of one allocation of a free GPU."""
        kind = "run" if lasts_ms is None else "manual"
        ask = AllocationRequest(kind=kind, user="u", uid=1, count=1, duration_ms=lasts_ms)
        order = ReleaseOrder(uid=1, by="u", reason="released", all=True)
        total = 0
        for turn in range(ROUNDS):
            before = (await self.spent())[1]
            got = await self.allocator.reserve(ask, f"{time.monotonic_ns()}-{turn}")
            total += (await self.spent())[1] - before
            if got.code != "granted":
                raise ValueError(f"an allocation was {got.code}")
            await self.allocator.release(order, f"{time.monotonic_ns()}-{turn}")
            await observe(self.store, self.scan, 1.0, 60.0)
        return total / ROUNDS

    async def book(self, first: int, last: int) -> float:
        """Book one GPU for an hour each, one after the other; return the microseconds of the last one."""
        now_ms, spent = round(time.time() * 1000), 0
        for number in range(first, last):
            begin_ms = now_ms + (number + 2) * HOUR
            request = BookingRequest(user="u", uid=1, count=1, begin_ms=begin_ms, end_ms=begin_ms + HOUR)
            before = (await self.spent())[1]
            await self.bookings.book(request, str(number))
            spent = (await self.spent())[1] - before
        return spent


async def _measure(url: str) -> list[str]:
    host, lines, booked = _Host(url), [], 0
    await observe(host.store, host.scan, 1.0, 60.0)
    for count in COUNTS:
        last = await host.book(booked, count)
        booked = count
        await observe(host.store, host.scan, 1.0, 60.0)
        for name, lasts_ms in REQUESTS.items():
            lines.append(f"{count} bookings, {name}: {await host.allocation(lasts_ms):.0f} µs in Redis")
        if count:
            lines.append(f"{count} bookings, the last of them: {last:.0f} µs in Redis")
    await host.store.close()
    return [*lines, f"the script with its definitions: {len(RESERVE.text)} characters"]


def measure() -> Iterator[str]:
    """Yield the lines of the measurement."""
    with durable_redis() as folder:
        yield from asyncio.run(_measure(f"unix://{folder}/r"))
