"""Detection against an oracle: never late, never false, over hundreds of random changes."""

import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from redis import Redis
from support.daemon import gpu, use
from support.eventually import eventually, slowness

from canhazgpu.config.settings import Gpus, Settings, Violations
from canhazgpu.events.envelope import decode
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.providers.simulated import SimulatedProvider

pytestmark = pytest.mark.anyio
SCAN, CONFIRM = 0.2, 0.3
GPUS, USERS = 6, ("alice", "bob", "carol")
CHANGES = int(os.environ.get("DETECTION_CHANGES", "200"))
SEED = int(os.environ.get("DETECTION_SEED", "7"))
THRESHOLD = 100


class Stall:
    """Measures how long the machine kept a sleeping thread, and Redis, from running."""

    def __init__(self, redis: Redis) -> None:
        self.worst: list[tuple[float, float]] = []
        self._redis = redis
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.is_set():
            before = time.time()
            time.sleep(0.005)
            self._redis.ping()
            late = time.time() - before - 0.005
            if late > 0.002:
                self.worst.append((before, late))

    def between(self, begin: float, end: float) -> float:
        """Return the time that was lost in delays which overlap a period."""
        return sum(late for moment, late in self.worst if begin - 0.05 <= moment + late and moment <= end)

    def limit(self, begin: float, seconds: float) -> float:
        """Return when so many seconds are over, without those that were lost."""
        end, before = begin + seconds, begin
        while end > before:
            end, before = begin + seconds + self.between(begin, end), end
        return end

    def close(self) -> None:
        """Stop measuring."""
        self._over.set()
        self._thread.join()


@dataclass
class Span:
    """The real use of one GPU by a user; `end` is None while it lasts."""

    gpu: int
    user: str
    begin: float
    end: float | None = None


@dataclass
class World:
    """The real state of the host, with its history."""

    folder: Path
    using: dict[tuple[int, str], int] = field(default_factory=dict)  # (GPU, user) -> MiB
    faults: dict[int, str] = field(default_factory=dict)
    hang: bool = False
    spans: list[Span] = field(default_factory=list)
    blind: list[tuple[int | None, float, float]] = field(default_factory=list)  # GPU, or None for all.
    scanner: Scanner | None = None
    _blind_since: dict[int | None, float] = field(default_factory=dict)

    def in_use(self, index: int) -> bool:
        """Return whether the GPU counts as in use."""
        return sum(mb for (gpu_, _), mb in self.using.items() if gpu_ == index) > THRESHOLD

    def write(self) -> None:
        """Write the scenario, and record the time."""
        parts = []
        for index in range(GPUS):
            people = [(user, mb) for (gpu_, user), mb in self.using.items() if gpu_ == index]
            facts: dict[str, Any] = {"error": self.faults[index]} if index in self.faults else {}
            if self.hang and index == 0:
                facts["hang"] = "5s"
            lines = [
                use(9_000_000 + index * 10 + USERS.index(user), mb, user, "python3") for user, mb in people
            ]
            parts.append(gpu(index, *lines, **facts))
        new = self.folder / "new"
        new.write_text("\n".join(parts))
        new.rename(self.folder / "gpus.toml")
        self._remember(time.time())

    def _remember(self, now: float) -> None:
        current = {(index, user) for (index, user) in self.using if self.in_use(index)}
        known = {(span.gpu, span.user): span for span in self.spans if span.end is None}
        for place in current - set(known):
            self.spans.append(Span(*place, begin=now))
        for place in set(known) - current:
            known[place].end = now
        wanted: set[int | None] = {*self.faults, *([None] if self.hang else [])}
        for one in wanted - set(self._blind_since):
            self._blind_since[one] = now
        for one in set(self._blind_since) - wanted:
            # A hang lasts until the driver's deadline has passed, whenever the file says otherwise.
            self.blind.append((one, self._blind_since.pop(one), now + (2.5 if one is None else 0)))

    def change(self, chance: random.Random) -> None:
        """Make one random change."""
        index, user = chance.randrange(GPUS), chance.choice(USERS)
        kind = chance.random()
        if kind < 0.45:
            if (index, user) in self.using:
                del self.using[index, user]
            else:
                self.using[index, user] = chance.choice((20, 60, 99, 100, 101, 150, 4000))
        elif kind < 0.8 and self.using:
            place = chance.choice(sorted(self.using))
            self.using[place] = chance.choice((20, 60, 99, 101, 150, 4000))
        elif kind < 0.95:
            if self.faults.pop(index, None) is None:
                self.faults[index] = chance.choice(("GPU_IS_LOST", "NO_PERMISSION", "TIMEOUT", "UNKNOWN"))
        elif kind < 0.965:
            self.hang = True

    def settle(self) -> None:
        """End all uses and all faults."""
        self.using.clear()
        self.faults.clear()
        self.hang = False
        self.write()

    def sighted(self, index: int, begin: float, end: float, stall: Stall) -> bool:
        """Return whether the GPU was readable during the whole period."""
        return not any(
            one in (None, index) and a < end and b + stall.between(a, b) > begin for one, a, b in self.blind
        )


@pytest.fixture
def stall(redis_url: str) -> Iterator[Stall]:
    """The delays of the machine itself."""
    with Redis.from_url(redis_url) as redis:
        made = Stall(redis)
        yield made
        made.close()


@pytest.fixture
async def world(store: Store, folder: Path) -> AsyncIterator[World]:
    """A running scanner on a simulated host."""
    world = World(folder)
    world.write()
    settings = Settings(
        host=store.keys.host, gpus=Gpus(scan_interval=SCAN), violations=Violations(confirm=CONFIRM)
    )
    scanner = Scanner(settings, store, SimulatedProvider(str(folder / "gpus.toml")), Attributor())
    world.scanner = scanner
    async with anyio.create_task_group() as tasks:
        await tasks.start(scanner.run)
        yield world
        tasks.cancel_scope.cancel()


@pytest.mark.slow(60)
@pytest.mark.timeout(900)
async def test_detection_is_never_late_and_never_false(store: Store, world: World, stall: Stall) -> None:
    """Each lasting use is a violation within scan_interval + confirm, and nothing else is."""
    chance = random.Random(SEED)
    for _ in range(CHANGES):
        world.change(chance)
        world.write()
        await anyio.sleep(chance.choice((0.01, 0.05, 0.2, 0.4, 0.7)))
        if world.hang and chance.random() < 0.5:
            world.hang = False
    world.settle()
    assert world.scanner
    assert await world.scanner.wait_for_new_scan(60)

    async def is_over() -> bool:
        return not await store.redis.hlen(store.keys.open)

    await eventually(is_over)
    rows: Any = await store.redis.xrange(store.keys.violations)
    facts = [decode(fields) for _, fields in rows]
    opened = [(_at(fact.time), fact.data) for fact in facts if fact.type.endswith("opened")]
    closed = {fact.data["violation"] for fact in facts if fact.type.endswith("closed")}
    assert {data["violation"] for _, data in opened} == closed
    late, checked = _late(world, opened, stall)
    assert late == []
    assert _false(world, opened, stall) == []
    least = CHANGES / 10 / slowness()  # A busy machine leaves fewer moments at which something must be seen.
    assert checked > least
    assert len(opened) > least


def _late(world: World, opened: list[tuple[float, dict[str, Any]]], stall: Stall) -> tuple[list[str], int]:
    """Return the uses that were not detected in time, and the number of checked ones."""
    late, checked = [], 0
    for span in world.spans:
        limit = stall.limit(span.begin, SCAN + CONFIRM)
        end = span.end if span.end is not None else float("inf")
        if end <= limit + 0.001 or not world.sighted(span.gpu, span.begin - SCAN, limit + SCAN, stall):
            continue
        checked += 1
        if not any(
            data["gpu"] == span.gpu and data["user"] == span.user and moment <= limit + 0.002
            for moment, data in opened
            if span.begin - 5 <= moment <= end or _lasts(data, span)
        ):
            late.append(f"{span} not by {limit - span.begin:.3f} s")
    return late, checked


def _lasts(data: dict[str, Any], span: Span) -> bool:
    """Return whether an older violation of the same place still covers this use."""
    return data["gpu"] == span.gpu and data["user"] == span.user and _at(data["since"]) <= span.begin


def _false(world: World, opened: list[tuple[float, dict[str, Any]]], stall: Stall) -> list[str]:
    """Return the violations of users who did not use the GPU, or not for long enough."""
    wrong = []
    for moment, data in opened:
        since = _at(data["since"])
        mine = [span for span in world.spans if (span.gpu, span.user) == (data["gpu"], data["user"])]
        # A scan reads first, and Redis says when it has got it.
        at_first, at_last = (
            any(
                span.begin - 0.002 <= at and (span.end or 1e12) >= at - 0.1 - stall.between(at - 0.1, at)
                for span in mine
            )
            for at in (since, moment)
        )
        # Bursts add up; each may have begun right behind the scan before the one that saw it.
        bursts = [span for span in mine if span.begin <= moment]
        in_all = sum(min(span.end or moment, moment) - span.begin + SCAN for span in bursts)
        lasted = moment - since >= CONFIRM - 0.001 or (len(bursts) > 1 and in_all >= CONFIRM)
        if not (at_first and at_last and lasted):
            wrong.append(str(data))
    return wrong


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_fresh_scan_began_after_it_was_asked_for(store: Store, folder: Path) -> None:
    """`status` and allocations see a scan that is newer than the request."""
    world = World(folder)
    world.write()
    settings = Settings(host=store.keys.host, gpus=Gpus(scan_interval=30.0))
    scanner = Scanner(settings, store, SimulatedProvider(str(folder / "gpus.toml")), Attributor())
    async with anyio.create_task_group() as tasks:
        await tasks.start(scanner.run)
        for mb in (4000, 20, 5000):
            world.using = {(0, "bob"): mb}
            world.write()
            assert await scanner.wait_for_new_scan(60)
            raw: Any = await store.redis.hget(store.keys.gpu(0), "usage")
            assert msgspec.json.decode(raw)["in_use"] is (mb > THRESHOLD)
        tasks.cancel_scope.cancel()
