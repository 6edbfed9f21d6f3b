"""A scan that is the same as the last one is not judged again, and nobody can tell the difference."""

import random
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.containers import ALICES, BOBS, in_container
from support.reservations import ALICE, BOB, process, unused, used

from bench.truth.clock import Clock, LabStore
from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.service.gpus.observation import observe, stall
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.policy import AllocationPolicy

pytestmark = pytest.mark.anyio
CONFIRM, STALE = 3.0, 20.0
SETTINGS = Settings(notices=Notices(idle_after=300.0, idle_release=600.0))
STEPS = 500
PAUSES = [1, *[200] * 6, *[400] * 6, *[1000] * 6, 5000, 15_000, 70_000, -500]  # Milliseconds.


class Twin:
    """A host of three GPUs. If `judges`, each of its scans is judged."""

    def __init__(self, url: str, clock: Clock, *, judges: bool = False) -> None:
        self.clock = clock
        self.store = LabStore(url, f"settled-{uuid.uuid4().hex[:12]}", clock)
        self.allocator = Allocator(SETTINGS, self.store)
        self.judges = judges
        self.spared = 0

    async def scan(self, *usages: GpuUsage) -> tuple[int, ...]:
        """Store one scan; return its result."""
        keys = self.store.keys
        if self.judges:
            await self.store.redis.hdel(keys.scan, "settled")
        before = await self.store.redis.hget(keys.scan, "settled")
        rules = AllocationPolicy.of(SETTINGS)
        seen = await observe(self.store, usages, CONFIRM, STALE, rules=rules)
        self.spared += before is not None and before == await self.store.redis.hget(keys.scan, "settled")
        return (seen.now_ms, seen.due_ms, seen.opened, seen.closed, seen.freed, len(seen.granted))

    async def state(self) -> str:
        """Return all that Redis has of the host; the times since boot are left out, which are real."""
        found: dict[str, Any] = {}
        plain = (key for key in vars(self.store.keys).values() if key.startswith(self.store.keys.prefix))
        for key in (*plain, *(self.store.keys.gpu(index) for index in range(3))):
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


@pytest.fixture
async def twins(redis_url: str) -> AsyncIterator[tuple[Twin, Twin]]:
    """Two hosts with one clock, to which the same happens."""
    clock = Clock()
    pair = Twin(redis_url, clock), Twin(redis_url, clock, judges=True)
    yield pair
    for twin in pair:
        await twin.store.close()


def uses(index: int) -> list[GpuUsage]:
    """Return what a scan may see of a GPU."""
    return [
        unused(index),
        unused(index, temperature_c=70),
        unused(index, "error", reason="it fell off the bus"),
        unused(index, "unknown", reason="no answer"),
        used(index, process(ALICE)),
        used(index, process(BOB)),
        used(index, process(ALICE), process(BOB)),
        used(index, in_container()),
        used(index, in_container(hint=ALICES)),
        used(index, in_container(hint=BOBS)),
        used(index),
    ]


async def change(twin: Twin, chance: random.Random, step: int) -> None:
    """Make one change, which the random numbers choose."""
    uid, gpu = chance.choice([ALICE, BOB]), chance.randrange(3)
    what, number = chance.randrange(8), f"op-{step}"
    call = twin.allocator
    if what <= 1:
        facts: dict[str, Any] = {"count": 1} if chance.random() < 0.5 else {"gpus": (gpu,)}
        ask = AllocationRequest(
            kind=chance.choice(["manual", "run"]), user=f"u{uid}", uid=uid, wait=True, **facts
        )
        await call.reserve(ask, number)
    elif what <= 3:
        await call.release(ReleaseOrder(uid=uid, by=f"u{uid}", reason="released", all=True), number)
    elif what == 4:
        await call.drain(0, number, gpus=[gpu], reason=chance.choice([None, "fan"]), by="root")
    elif what == 5:
        await call.disown(uid, number, gpus=None, undo=chance.random() < 0.5)
    elif what == 6:
        await call.manage(0, number, gpus=[0, 1, 2][: chance.randint(2, 3)], force=True, by="root")
    else:
        await stall(twin.store, "the driver hangs", "wait")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_settled_host_is_as_one_that_is_judged_each_time(twins: tuple[Twin, Twin], seed: int) -> None:
    """Whatever happens between scans, state, events and results are equal to the last byte."""
    chance = random.Random(seed)
    scene = [unused(index) for index in range(3)]
    for step in range(STEPS):
        if chance.random() < 0.1:
            gpu = chance.randrange(3)
            scene[gpu] = chance.choice([unused(gpu), *uses(gpu)])
        if chance.random() < 0.06:
            state = chance.getstate()
            for twin in twins:
                chance.setstate(state)
                await change(twin, chance, step)
        twins[0].clock.now_ms += chance.choice(PAUSES)
        results = [await twin.scan(*scene) for twin in twins]
        assert results[0] == results[1], step
        if step % 10 == 0:
            assert await twins[0].state() == await twins[1].state(), step
    assert await twins[0].state() == await twins[1].state()
    assert twins[0].spared > STEPS // 100
    assert not twins[1].spared


async def test_a_minute_later_everything_is_judged(twins: tuple[Twin, Twin]) -> None:
    """What somebody else wrote into Redis is corrected after a minute at the latest."""
    twin = twins[0]
    keys, clock = twin.store.keys, twin.clock
    for _ in range(4):
        clock.now_ms += 1000
        await twin.scan(unused(0))
    clock.now_ms += 60_000 - clock.now_ms % 60_000
    for _ in range(3):
        clock.now_ms += 1000
        await twin.scan(unused(0))
    await twin.store.redis.hset(keys.gpu(0), "usage", "junk")
    clock.now_ms += 10_000
    await twin.scan(unused(0))
    assert await twin.store.redis.hget(keys.gpu(0), "usage") == b"junk"
    for _ in range(5):
        clock.now_ms += 11_000
        await twin.scan(unused(0))
    assert await twin.store.redis.hget(keys.gpu(0), "usage") != b"junk"


async def test_other_rules_judge_again(twins: tuple[Twin, Twin]) -> None:
    """A scan under other settings is not spared because of one under these."""
    twin = twins[0]
    for _ in range(4):
        twin.clock.now_ms += 1000
        await twin.scan(unused(0))
    assert twin.spared
    before = twin.spared
    rules = AllocationPolicy.of(Settings())
    await observe(twin.store, [unused(0)], CONFIRM, STALE, rules=rules)
    twin.clock.now_ms += 1000
    await twin.scan(unused(0))
    assert twin.spared == before
