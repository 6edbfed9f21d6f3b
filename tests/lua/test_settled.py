"""A scan that is the same as the last one is not judged again, and nobody can tell the difference."""

import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from support.containers import BOBS, in_container
from support.reservations import unused, used
from support.settled_twins import CARDS, CONFIRM, STALE, Twin, change, uses

from bench.truth.clock import Clock
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage, RunMember
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.storage.policy import AllocationPolicy

pytestmark = pytest.mark.anyio
STEPS = 500
EVERY = 10
PAUSES = [1, *[200] * 6, *[400] * 6, *[1000] * 6, 5000, 15_000, 70_000, -500]  # Milliseconds.


@pytest.fixture
async def twins(redis_url: str) -> AsyncIterator[tuple[Twin, Twin]]:
    """Two hosts with one clock, to which the same happens."""
    clock, url = Clock(), f"{redis_url}?db=9"  # Of their own: all keys are looked at.
    pair = Twin(url, clock), Twin(url, clock, judges=True)
    yield pair
    await pair[0].store.redis.flushdb()
    for twin in pair:
        await twin.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_settled_host_is_as_one_that_is_judged_each_time(twins: tuple[Twin, Twin], seed: int) -> None:
    """Whatever happens between scans, state, events and results are equal to the last byte."""
    chance = random.Random(seed)
    scene: list[GpuUsage | None] = [unused(card) for card in range(CARDS)]
    order = list(range(CARDS))
    for step in range(STEPS):
        if chance.random() < 0.06:
            card = chance.randrange(CARDS)
            scene[card] = unused(card) if chance.random() < 0.5 else chance.choice(uses(card))
        if chance.random() < 0.01:
            scene[chance.randrange(CARDS)] = None
        if chance.random() < 0.01:
            chance.shuffle(order)
        if chance.random() < 0.08:
            state = chance.getstate()
            for twin in twins:
                chance.setstate(state)
                await change(twin, chance, step)
        twins[0].clock.now_ms += chance.choice(PAUSES)
        listed = [scene[card] for card in order]
        seen = [
            msgspec.structs.replace(usage, index=index)
            for index, usage in enumerate(usage for usage in listed if usage)
        ]
        results = [await twin.see(seen) for twin in twins]
        assert results[0] == results[1], step
        if step % EVERY == 0:
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


async def test_what_is_only_shown_is_never_old(twins: tuple[Twin, Twin]) -> None:
    """A scan that differs only in what is shown is stored, also for the next service."""
    member = RunMember(pid=7, start=1, run="r1")
    warmer: list[dict[str, Any]] = [{}, {"temperature_c": 41}, {"members": (member,)}, {"ordinal": 2}, {}]
    for more in warmer:
        for _ in range(3):
            twins[0].clock.now_ms += 200
            for twin in twins:
                await twin.scan(unused(0), msgspec.structs.replace(unused(1), **more), unused(2))
            assert await twins[0].state() == await twins[1].state()
    assert twins[0].spared


async def test_containers_are_folded_no_longer_than_their_violations_end_often(
    twins: tuple[Twin, Twin],
) -> None:
    """Time alone unfolds the containers of a GPU, so until then each scan is judged."""
    for twin in twins:
        await twin.scan(unused(0))
        ends = {"containers": {"level": 59.01, "at_ms": twin.clock.now_ms}}
        await twin.store.redis.hset(twin.store.keys.gpu(0), "ends", msgspec.json.encode(ends))
    for _ in range(20):
        twins[0].clock.now_ms += 200
        results = [await twin.scan(used(0, in_container(hint=BOBS))) for twin in twins]
        assert results[0] == results[1]
        assert await twins[0].state() == await twins[1].state()
