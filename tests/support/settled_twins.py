"""Two hosts to which the same happens: one may take a scan for settled, the other judges each one."""

import random
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from support.containers import ALICES, BOBS, in_container
from support.reservations import ALICE, BOB, process, unused, used

from bench.truth.clock import Clock, LabStore
from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading, GpuUsage, RunMember
from canhazgpu.events.redis_client.store import StoreDown
from canhazgpu.service.gpus.observation import observe, stall
from canhazgpu.service.gpus.renumbering import Renumbering
from canhazgpu.service.recovery.reconciliation import RESTORE
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.reservations.user_renames import NAME
from canhazgpu.service.silences.lifecycle import Draft, Silences
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

CONFIRM, STALE, PATIENCE = 3.0, 20.0, 90.0
SETTINGS = Settings(notices=Notices(idle_after=300.0, idle_release=600.0))
OTHERS = Settings(notices=Notices(idle_after=0.0, expiry_warning=5.0))
CARDS = 3


class Twin:
    """A host of three GPUs. If `judges`, each of its scans is judged."""

    def __init__(self, url: str, clock: Clock, *, judges: bool = False) -> None:
        self.clock = clock
        self.store = LabStore(url, f"settled-{uuid.uuid4().hex[:12]}", clock)
        self.judges = judges
        self.spared = 0
        self.confirm = CONFIRM
        self.copy: dict[str, bytes] | None = None
        self.kept: dict[bytes, bytes] = {}
        self.start(SETTINGS)

    def start(self, settings: Settings) -> None:
        """Begin anew with these settings, as a service that is restarted."""
        self.settings = settings
        self.rules = AllocationPolicy.of(settings)
        self.allocator = Allocator(settings, self.store)
        self.cards = Renumbering(self.store, self.rules, PATIENCE)

    async def scan(self, *usages: GpuUsage) -> tuple[int, ...]:
        """Store one scan; return its result."""
        return await self._observe(usages)

    async def see(self, usages: Sequence[GpuUsage]) -> tuple[int, ...] | str:
        """Store one scan as the scanner does: the state follows the cards, and lost ones are shown."""
        try:
            readings = await self.cards.settle(
                [GpuReading(index=one.index, uuid=one.uuid, name=one.name) for one in usages],
                self.clock.now_ms,
            )
            named = zip(usages, readings, strict=True)
            seen = [msgspec.structs.replace(one, uuid=reading.uuid) for one, reading in named]
            return await self._observe([*seen, *self.cards.missing()], former=self.cards.former)
        except StoreDown as down:
            self.cards.forget()
            return str(down)

    async def _observe(
        self, usages: Sequence[GpuUsage], former: Mapping[int, str] | None = None
    ) -> tuple[int, ...]:
        keys = self.store.keys
        if self.judges:
            await self.store.redis.hdel(keys.scan, "settled")
        before = await self.store.redis.hget(keys.scan, "settled")
        seen = await observe(self.store, usages, self.confirm, STALE, rules=self.rules, former=former)
        self.spared += before is not None and before == await self.store.redis.hget(keys.scan, "settled")
        return (seen.now_ms, seen.due_ms, seen.opened, seen.closed, seen.freed, len(seen.granted))

    async def state(self) -> str:
        """Return all that Redis has of the host; the times since boot are left out, which are real."""
        found: dict[bytes, Any] = {}
        async for key in self.store.redis.scan_iter(f"*{self.store.keys.host}*"):
            kind = await self.store.redis.type(key)
            if kind == b"hash":
                rows: Any = await self.store.redis.hgetall(key)
                found[key] = sorted(pair for pair in rows.items() if pair[0] != b"settled")
            elif kind == b"stream":
                found[key] = await self.store.redis.xrange(key)
            elif kind == b"zset":
                found[key] = await self.store.redis.zrange(key, 0, -1, withscores=True)
            else:
                found[key] = await self.store.redis.get(key)
        text = str(sorted(found.items())).replace(self.store.keys.host, "HOST")
        return re.sub(r'"up":\d+|(?<=holder_up\', b\')[^\']*', "", text)

    async def save(self) -> None:
        """Make a copy of all that Redis has of the host."""
        names = [key async for key in self.store.redis.scan_iter(f"*{self.store.keys.host}*")]
        self.copy = {key.decode(): await self.store.redis.dump(key) or b"" for key in names}

    async def set_back(self) -> None:
        """Have Redis be as it was when the copy was made, or wiped if there is none."""
        names = [key async for key in self.store.redis.scan_iter(f"*{self.store.keys.host}*")]
        for key in names:
            await self.store.redis.delete(key)
        for name, text in (self.copy or {}).items():
            await self.store.redis.restore(name, 0, text)
        self.cards.forget()

    async def restore(self, gpus: Sequence[int]) -> None:
        """Restore the reservations of some time ago as a journal would; the others had ended."""
        keys, redis = self.store.keys, self.store.redis
        there: Any = await redis.hgetall(keys.reservations)
        sequence = int(await redis.get(keys.sequence) or 0)
        state = {
            "owner": self.store.owner,
            "dataset": "d",
            "sequence": sequence + 3,
            "records": [text.decode() for text in self.kept.values()],
            "requests": [],
            "bookings": [],
            "ended": sorted(name.decode() for name in there.keys() - self.kept.keys()),
            "strong": [],
            "weak": [],
            "cards": {},
            "uuids": {},
            "behind": True,
        }
        rules = AllocationPolicy().text
        held = {index for text in self.kept.values() for index in msgspec.json.decode(text)["gpus"]}
        await self.store.run(
            RESTORE,
            [*host_keys(keys), keys.bookings, *map(keys.gpu, sorted({*gpus, *held}))],
            [keys.host, rules, msgspec.json.encode(state)],
        )
        self.kept = there


def uses(index: int) -> list[GpuUsage]:
    """Return what a scan may see of a GPU."""
    plain = [
        unused(index),
        unused(index, "error", reason="it fell off the bus"),
        unused(index, "unknown", reason="no answer"),
        used(index, process(ALICE)),
        used(index, process(BOB)),
        used(index, process(ALICE), process(BOB)),
        used(index, in_container()),
        used(index, in_container(hint=ALICES)),
        used(index, in_container(hint=BOBS)),
        used(index, in_container(hint=BOBS), in_container(hint=ALICES, pid=77), in_container(pid=5)),
        used(index, process(BOB, person=None, unnamed=True, user="1002")),
        used(index),
    ]
    busy = [msgspec.structs.replace(one, utilization_percent=percent) for one in plain for percent in (0, 90)]
    exempt = [msgspec.structs.replace(one, exempt=(process(BOB),)) for one in (plain[0], plain[3])]
    member = RunMember(pid=7, start=1, run="r1")
    shown = [
        msgspec.structs.replace(plain[0], temperature_c=41),
        msgspec.structs.replace(plain[0], members=(member,)),
        used(index, in_container(name="été")),
        used(index, in_container(name='x","pid":4242,"user":"root')),
    ]
    return [*plain, *busy, *exempt, *shown, *shown]


class Change:
    """One change to a twin; the random numbers choose which."""

    def __init__(self, twin: Twin, chance: random.Random, step: int, gpus: Sequence[int]) -> None:
        self.twin, self.call, self.chance = twin, twin.allocator, chance
        self.number, self.gpus = f"op-{step}", gpus
        self.uid, self.gpu = chance.choice([ALICE, BOB]), chance.choice(gpus)

    async def reserve(self) -> None:
        """Request GPUs for a user, perhaps to wait for them."""
        chance = self.chance
        facts: dict[str, Any] = {"count": 1} if chance.random() < 0.5 else {"gpus": (self.gpu,)}
        if chance.random() < 0.5:
            facts["duration_ms"] = chance.choice([2000, 20_000, 200_000])
        facts |= {"kind": chance.choice(["manual", "run"]), "login_uid": chance.choice([None, None, ALICE])}
        wait = chance.random() < 0.7
        ask = AllocationRequest(user=f"u{self.uid}", uid=self.uid, wait=wait, **facts)
        await self.call.reserve(ask, self.number)

    async def release(self) -> None:
        """End all reservations of a user."""
        order = ReleaseOrder(uid=self.uid, by=f"u{self.uid}", reason="released", all=True)
        await self.call.release(order, self.number)

    async def drain(self) -> None:
        """Exclude a GPU, or include it again."""
        reason = self.chance.choice([None, "fan"])
        await self.call.drain(0, self.number, gpus=[self.gpu], reason=reason, by="root")

    async def disown(self) -> None:
        """Say that presumed use is not the holder's, or undo that."""
        await self.call.disown(self.uid, self.number, gpus=None, undo=self.chance.random() < 0.5)

    async def manage(self) -> None:
        """Choose the GPUs that can be reserved."""
        managed = [one for one in self.gpus if one == self.gpu or self.chance.random() < 0.7]
        await self.call.manage(0, self.number, gpus=managed, force=True, by="root")

    async def stall(self) -> None:
        """Record a scan that did not reach the driver."""
        await stall(self.twin.store, "the driver hangs", "wait")

    async def expire(self) -> None:
        """End what is over."""
        await self.call.expire()

    async def extend(self) -> None:
        """Extend the reservations of a user."""
        await self.call.extend(self.uid, self.number, gpus=None, add_ms=30_000, most_ms=None)

    async def rename_user(self) -> None:
        """Give a user another name."""
        names = {str(self.uid): {"name": self.chance.choice([f"u{self.uid}", "mallory", "u1001"])}}
        keys, rules = self.twin.store.keys, self.twin.rules.text_for(None)
        every = [*host_keys(keys), *map(keys.gpu, self.gpus)]
        await self.twin.store.run(NAME, every, [keys.host, rules, msgspec.json.encode(names)])

    async def silence(self) -> None:
        """Silence a GPU."""
        draft = Draft(by="root", by_uid=0, reason="why", gpu=self.gpu)
        await Silences(self.twin.store).silence(draft, self.number, lasts=10, ack_max=0)

    async def restart(self) -> None:
        """Restart the service with perhaps other settings."""
        self.twin.start(self.chance.choice([SETTINGS, OTHERS]))
        self.twin.confirm = self.chance.choice([CONFIRM, 8.0, 0.5])
        await self.call.adopt()

    async def conclude(self) -> None:
        """Record that the process of a run has ended."""
        held = await self.call.reservations()
        for one in held[:1]:
            await self.call.conclude(one.id)
        await self.call.heartbeat([one.id for one in held])

    async def restore(self) -> None:
        """Restore the reservations of some time ago."""
        await self.twin.restore(self.gpus)

    async def save(self) -> None:
        """Copy what Redis has."""
        await self.twin.save()

    async def set_back(self) -> None:
        """Set Redis back."""
        await self.twin.set_back()


WEIGHTS = {
    Change.reserve: 8,
    Change.release: 4,
    Change.expire: 4,
    Change.drain: 2,
    Change.disown: 2,
    Change.manage: 2,
    Change.stall: 2,
    Change.extend: 2,
    Change.rename_user: 2,
    Change.silence: 2,
    Change.restart: 2,
    Change.conclude: 2,
    Change.restore: 2,
    Change.save: 2,
    Change.set_back: 1,
}


async def change(twin: Twin, chance: random.Random, step: int) -> None:
    """Make one change, which the random numbers choose."""
    known: Any = await twin.store.redis.zrange(twin.store.keys.gpus, 0, -1)
    if known:
        what = chance.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        await what(Change(twin, chance, step, [int(index) for index in known]))
