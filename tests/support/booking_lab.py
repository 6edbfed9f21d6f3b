"""Bookings in a Redis without a service, with times in hours from now."""

import time
from typing import Any

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Booked, Record
from canhazgpu.service.bookings.bookings import BookingRequest, BookingResult, Bookings
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.reservations.script_replies import Reserved

HOUR = 3_600_000


class Host:
    """GPUs, the allocator and the bookings, with times in hours from now."""

    def __init__(self, store: Store, gpus: int) -> None:
        self.store = store
        self.allocator = Allocator(Settings(), store)
        self.bookings = Bookings(store, self.allocator)
        self.usages = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(gpus)]
        self.now_ms = round(time.time() * 1000)
        self.turn = 0

    async def scan(self, **changed: Any) -> None:
        """Store a scan; `changed` has the new fields of GPUs, as `gpu1={...}`."""
        for name, fields in changed.items():
            index = int(name.removeprefix("gpu"))
            self.usages[index] = msgspec.structs.replace(self.usages[index], **fields)
        await observe(self.store, self.usages, 0.0, 60.0)

    def operation(self) -> str:
        """Return the id of an operation that is new."""
        self.turn += 1
        return f"o{self.turn}"

    async def book(self, begin: float, end: float, count: int = 1, **more: Any) -> BookingResult:
        """Book GPUs."""
        if "gpus" in more:
            count = len(more["gpus"])
        facts = {"user": "u1001", "uid": 1001, "count": None if "gpus" in more else count, **more}
        request = BookingRequest(
            begin_ms=self.now_ms + round(begin * HOUR), end_ms=self.now_ms + round(end * HOUR), **facts
        )
        return await self.bookings.book(request, self.operation())

    async def booked(self, begin: float, end: float, count: int = 1, **more: Any) -> Booked:
        """Book GPUs, which are there."""
        result = await self.book(begin, end, count, **more)
        assert result.code == "done", result
        return result.booked[0]

    async def reserve(self, hours: float | None, count: int = 1, **more: Any) -> Reserved:
        """Reserve GPUs for some hours; without an end if that is None."""
        lasts = None if hours is None else round(hours * HOUR)
        facts = {"kind": "run" if hours is None else "manual", "user": "u1002", "uid": 1002, **more}
        if "gpus" not in more:
            facts["count"] = count
        if lasts is not None:
            facts["duration_ms"] = lasts
        return await self.allocator.reserve(AllocationRequest(**facts), self.operation())

    async def code(self, hours: float | None, count: int = 1, **more: Any) -> str:
        """Return what became of a request."""
        return (await self.reserve(hours, count, **more)).code

    async def held(self) -> list[Record]:
        """Return the live reservations."""
        return await self.allocator.reservations()

    async def release(self, *gpus: int) -> None:
        """Release GPUs, as an administrator, and scan them."""
        order = ReleaseOrder(uid=0, by="root", reason="admin", gpus=gpus, admin=True)
        code, _, _ = await self.allocator.release(order, self.operation())
        assert code == "released"

    async def events(self, *types: str) -> list[dict[str, Any]]:
        """Return the data of the events of these types."""
        rows: Any = await self.store.redis.xrange(self.store.keys.events)
        names = {f"canhazgpu.{name}".encode() for name in types}
        return [msgspec.json.decode(fields[b"data"]) for _, fields in rows if fields[b"type"] in names]


async def host(store: Store, gpus: int = 2) -> Host:
    """Return a host with idle GPUs."""
    made = Host(store, gpus)
    await made.scan()
    return made


def process(uid: int) -> dict[str, Any]:
    """Return the fields of a GPU that is used by a process of a user."""
    one = ProcessUse(
        pid=uid, name="p", user=f"u{uid}", uid=uid, person=f"u{uid}", evidence="uid", memory_mb=900, start=1
    )
    return {"in_use": True, "memory_mb": 900, "users": (one.user,), "processes": (one,)}


IDLE: dict[str, Any] = {"in_use": False, "memory_mb": 0, "users": (), "processes": ()}
