"""A host in Redis whose cards are renumbered; tests name each card by its UUID."""

from collections.abc import Sequence
from typing import Any

import msgspec
from support.reservations import process

from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Allocation, Settings
from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.gpu import GpuReading, GpuUsage, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Record
from canhazgpu.service.gpus.missing_cards import ended_violations
from canhazgpu.service.gpus.observation import Observed, observe
from canhazgpu.service.gpus.renumbering import Renumbering
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.script_replies import Reserved
from canhazgpu.service.storage.policy import AllocationPolicy
from canhazgpu.service.storage.snapshot import GpuState, snapshot

HOUR_MS = 3600_000


class CardHost:
    """Scans and reservations on real Redis data, without a running service.

    `uses` has the uids or processes on a card, by its UUID. If `real`, the processes exist in /proc.
    `instances` has the UUIDs of MIG instances by index.
    """

    def __init__(self, store: Store, patience: float = 600.0, policy: Any = "lru") -> None:
        self.store, self.patience = store, patience
        self.settings = Settings(notices=Notices(expiry_warning=0.0), allocation=Allocation(policy=policy))
        self.rules = AllocationPolicy.of(self.settings)
        self.allocator = Allocator(self.settings, store)
        self.cards = Renumbering(store, self.rules, patience)
        self.uses: dict[str, Sequence[int | ProcessUse]] = {}
        self.instances: dict[int, str] = {}
        self.now_ms, self.real = 0, False
        self._operations = 0

    def restart(self) -> None:
        """Continue with the data in Redis, as after a restart of the service."""
        self.cards, self.now_ms = Renumbering(self.store, self.rules, self.patience), 0

    async def scan(self, *uuids: str, failing: Sequence[str] = ()) -> Observed:
        """Scan cards that the driver lists in this order; a card without an entry in `uses` is idle."""
        readings = [
            GpuReading(index=index, uuid=uuid, name=f"card {uuid}")
            for index, uuid in (*enumerate(uuids), *self.instances.items())
        ]
        settled = await self.cards.settle(readings, self.now_ms)
        usages = [self._usage(one, failing) for one in settled] + self.cards.missing()
        missing = [usage.index for usage in self.cards.missing()]
        over = await ended_violations(self.store, missing) if self.real else ()
        former = self.cards.former
        observed = await observe(self.store, usages, 0.0, 60.0, rules=self.rules, ended=over, former=former)
        self.now_ms = observed.now_ms
        return observed

    def _usage(self, reading: GpuReading, failing: Sequence[str]) -> GpuUsage:
        plain = GpuUsage(index=reading.index, uuid=reading.uuid, name=reading.name)
        if reading.uuid in failing:
            return msgspec.structs.replace(plain, state="error", reason="GPU is lost")
        uses = self.uses.get(reading.uuid, ())
        processes = tuple(process(one) if isinstance(one, int) else one for one in uses)
        if not processes:
            return plain
        memory, users = 900 * len(processes), tuple(one.user for one in processes)
        return msgspec.structs.replace(plain, in_use=True, memory_mb=memory, users=users, processes=processes)

    async def reserve(self, uid: int, *gpus: int, count: int | None = None, **more: Any) -> Reserved:
        """Reserve these GPUs, or `count` GPUs, for eight hours."""
        self._operations += 1
        ask = AllocationRequest(
            kind="manual",
            user=f"u{uid}",
            uid=uid,
            gpus=gpus or None,
            count=count,
            duration_ms=8 * HOUR_MS,
            **more,
        )
        return await self.allocator.reserve(ask, f"operation-{self._operations}")

    async def drain(self, index: int, reason: str | None = "noisy fan") -> None:
        """Drain a GPU, or undrain it if `reason` is None."""
        self._operations += 1
        await self.allocator.drain(0, f"operation-{self._operations}", gpus=[index], reason=reason, by="root")

    async def states(self) -> dict[int, GpuState]:
        """Return the state of every GPU, as `status` reads it, by index."""
        return {one.usage.index: one for one in (await snapshot(self.store)).gpus}

    async def by_uuid(self) -> dict[str, GpuState]:
        """Return the state of every GPU by UUID."""
        return {one.usage.uuid: one for one in (await self.states()).values()}

    async def holders(self) -> dict[str, int]:
        """Return the holder of each card by UUID; fails if the hashes and the reservations disagree."""
        states = await self.states()
        records = await self.records()
        listed = {index: record for record in records.values() for index in record.gpus}
        assert sum(len(record.gpus) for record in records.values()) == len(listed)
        held = {index: one.reservation for index, one in states.items() if one.reservation}
        assert held == listed
        return {states[index].usage.uuid: record.uid for index, record in listed.items()}

    async def records(self) -> dict[str, Record]:
        """Return the live reservations by id."""
        return {one.id: one for one in await self.allocator.reservations()}

    async def violating_uids(self) -> dict[str, list[int]]:
        """Return the uids of the open violations on each card, by UUID."""
        states = await self.states()
        return {
            one.usage.uuid: [violation.uid or 0 for violation in one.violations]
            for one in states.values()
            if one.violations
        }

    async def gpu_fields(self, index: int) -> dict[str, str]:
        """Return the fields of the hash `gpu:N` for an index."""
        fields: Any = await self.store.redis.hgetall(self.store.keys.gpu(index))
        return {name.decode(): value.decode() for name, value in fields.items()}

    async def published(self, *kinds: str) -> list[Event]:
        """Return the events of these types, which are given without `canhazgpu.`."""
        rows: Any = await self.store.redis.xrange(self.store.keys.events)
        events = [decode(fields) for _, fields in rows]
        return [one for one in events if one.type.removeprefix("canhazgpu.") in kinds]

    def shorten_missing_timeout(self, seconds: float) -> None:
        """Shorten the timeout for missing cards, as if they had been missing for longer."""
        self.cards.patience_ms = max(0, self.cards.patience_ms - round(seconds * 1000))
