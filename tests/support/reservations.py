"""Reservations in a Redis without a service, which can be made to look older."""

from typing import Any

import msgspec

from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Settings, Violations
from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Record
from canhazgpu.service.gpus.observation import Observed, observe
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.storage.policy import AllocationPolicy

ALICE, BOB = 1001, 1002


class Lab:
    """A host of two GPUs with these settings of notices."""

    def __init__(self, store: Store, *, presume_holder: bool = True, **notices: Any) -> None:
        self.store = store
        self.settings = Settings(
            notices=Notices(**{"expiry_warning": 0.0, **notices}),
            violations=Violations(presume_holder=presume_holder),
        )
        self.allocator = Allocator(self.settings, store)

    async def scan(self, *usages: GpuUsage) -> Observed:
        """One scan; GPUs that are not named are idle."""
        seen = {index: unused(index) for index in range(2)} | {usage.index: usage for usage in usages}
        rules = AllocationPolicy.of(self.settings)
        return await observe(self.store, list(seen.values()), 0.0, 60.0, rules=rules)

    async def reserve(
        self,
        kind: str = "manual",
        *,
        uid: int = ALICE,
        hours: float = 8,
        gpus: tuple[int, ...] = (0,),
        **facts: Any,
    ) -> str:
        """Alice's reservation of GPU 0, or as it is said; return its id."""
        ask = AllocationRequest(
            kind=kind,
            user=f"u{uid}",
            uid=uid,
            gpus=gpus,
            **facts,
            duration_ms=round(hours * 3600_000) if kind == "manual" else None,
        )
        await self.scan()
        reply = await self.allocator.reserve(ask, f"{kind} {uid} {gpus}")
        assert reply.code == "granted"
        return reply.id

    async def later(self, minutes: float) -> None:
        """Let time pass for the reservations: all their moments were so much earlier."""
        rows: Any = await self.store.redis.hgetall(self.store.keys.reservations)
        for name, text in rows.items():
            record = msgspec.json.decode(text)
            moments = {key: value for key, value in record.items() if key.endswith("_ms")}
            record |= {key: value - round(minutes * 60_000) for key, value in moments.items()}
            await self.store.redis.hset(self.store.keys.reservations, name, msgspec.json.encode(record))

    async def record(self, name: str) -> Record:
        """The reservation as Redis keeps it."""
        return {one.id: one for one in await self.allocator.reservations()}[name]

    async def published(self, *verbs: str) -> list[Event]:
        """The events of reservations with these verbs."""
        rows: Any = await self.store.redis.xrange(self.store.keys.events)
        events = [decode(fields) for _, fields in rows]
        return [one for one in events if one.type in {f"canhazgpu.reservation.{verb}" for verb in verbs}]

    async def writes(self) -> tuple[int, dict[bytes, bytes]]:
        """How many events there are, and the reservations to the letter."""
        rows: Any = await self.store.redis.hgetall(self.store.keys.reservations)
        return await self.store.redis.xlen(self.store.keys.events), rows


def unused(index: int, state: str = "ok", **facts: Any) -> GpuUsage:
    """A GPU that nobody uses, or that cannot be read."""
    return GpuUsage(index=index, uuid=f"GPU-{index}", name="H100", state=state, **facts)


def used(index: int, *processes: ProcessUse) -> GpuUsage:
    """A GPU with these processes; without any it has memory that nobody is seen to have."""
    users = tuple(one.user for one in processes) or ("unknown",)
    return msgspec.structs.replace(
        unused(index), in_use=True, memory_mb=900, users=users, processes=processes
    )


def process(uid: int, **facts: Any) -> ProcessUse:
    """A process of a person."""
    proven: dict[str, Any] = {"user": f"u{uid}", "person": f"u{uid}", "evidence": "uid", **facts}
    return ProcessUse(pid=uid, name="python3", uid=uid, memory_mb=900, start=1, **proven)
