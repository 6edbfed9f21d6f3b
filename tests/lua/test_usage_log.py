"""The log of use: what a scan writes when it sees something new, and what stays bounded."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB, Lab, process, unused, used

from bench.truth.clock import Clock, LabStore
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import Observed
from canhazgpu.service.report.report import Question, report
from canhazgpu.service.report.summing import Summing

pytestmark = pytest.mark.anyio


class TimedLab(Lab):
    """A host of two GPUs, whose scans are a second apart: no hour ends while a test runs."""

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store)
        self._clock = clock

    async def scan(self, *usages: GpuUsage) -> Observed:
        """One scan, a second after the one before."""
        self._clock.now_ms += 1000
        return await super().scan(*usages)


@pytest.fixture
def clock() -> Clock:
    """The time of the host."""
    return Clock()


@pytest.fixture
async def store(redis_url: str, clock: Clock) -> AsyncIterator[Store]:
    """The state of a host nobody used before, with a clock of its own."""
    made = LabStore(redis_url, f"test-{uuid.uuid4().hex[:12]}", clock)
    yield made
    await made.close()


@pytest.fixture
def lab(store: Store, clock: Clock) -> Lab:
    """A host of two GPUs."""
    return TimedLab(store, clock)


async def log(store: Store, card: str = "GPU-0") -> list[list[Any]]:
    """Return the entries of a card without their times, in the order of the hours."""
    fields: Any = await store.redis.hgetall(store.keys.usage)
    rows = sorted((name.decode(), text) for name, text in fields.items() if name.startswith(b"log/"))
    texts = [text for name, text in rows if name.endswith(f"/{card}")]
    return [one[1:] for text in texts for one in msgspec.json.decode(b"[" + text + b"]")]


def working(*uids: int, percent: int | None = 90) -> GpuUsage:
    """GPU 0, used by these people."""
    return msgspec.structs.replace(used(0, *map(process, uids)), utilization_percent=percent)


async def test_only_what_is_new_is_written(lab: Lab) -> None:
    """Scans that see the same write one entry for each GPU, and nothing after it."""
    for _ in range(4):
        await lab.scan(working(BOB))
    before = await lab.store.redis.hgetall(lab.store.keys.usage)
    await lab.store.redis.script_flush()
    for _ in range(4):
        await lab.scan(working(BOB))
    assert await lab.store.redis.hgetall(lab.store.keys.usage) == before
    assert await log(lab.store) == [["busy", -1, f"uid:{BOB}"]]
    assert await log(lab.store, "GPU-1") == [["free", -1]]


async def test_who_used_it_and_who_held_it(lab: Lab) -> None:
    """The holder's use, use by others, a release, a broken and a drained GPU are entries of their own."""
    await lab.reserve(uid=ALICE)
    await lab.scan()
    await lab.scan(working(ALICE))
    await lab.scan(working(ALICE, BOB))
    await lab.scan(working(BOB))
    await lab.scan(unused(0, "error", reason="fell off the bus"))
    assert await log(lab.store) == [
        ["free", -1],
        ["free", ALICE],
        ["busy", ALICE, f"uid:{ALICE}"],
        ["busy", ALICE, f"uid:{ALICE}", f"uid:{BOB}"],
        ["busy", ALICE, f"uid:{BOB}"],
        ["unknown", ALICE],
    ]
    await lab.allocator.drain(0, "drain", gpus=[1], reason="fan", by="root")
    await lab.scan()
    assert (await log(lab.store, "GPU-1"))[-1] == ["out", -1]


async def test_use_that_is_presumed_the_holders_is_the_holders(lab: Lab) -> None:
    """Memory without a process, and a process of nobody known, count for the holder of the GPU."""
    await lab.reserve(uid=ALICE)
    await lab.scan(used(0))
    assert (await log(lab.store))[-1] == ["busy", ALICE, f"uid:{ALICE}"]


async def test_memory_that_is_kept_at_low_utilisation_is_idle_after_a_while(lab: Lab) -> None:
    """A GPU in use is idle once its utilisation has been low for `idle_after`; a driver may not say."""
    store = lab.store
    await lab.scan(working(BOB, percent=4))
    await store.redis.hset(store.keys.gpu(0), "low_ms", await store.now_ms() - 298_000)
    await lab.scan(working(BOB, percent=3))
    assert await log(store) == [["busy", -1, f"uid:{BOB}"]]
    await store.redis.hset(store.keys.gpu(0), "low_ms", await store.now_ms() - 299_000)
    await lab.scan(working(BOB, percent=0))
    assert (await log(store))[-1][0] == "idle"
    for percent in (5, None):
        await lab.scan(working(BOB, percent=percent))
        assert (await log(store))[-1][0] == "busy"
        assert await store.redis.hget(store.keys.gpu(0), "low_ms") is None


async def test_a_gap_between_scans_is_unknown(lab: Lab) -> None:
    """After a gap, an entry says that nothing is known from the last scan before it on."""
    await lab.scan(working(BOB))
    gap = await lab.store.now_ms() - 3_000_000
    await lab.store.redis.hset(lab.store.keys.scan, "at_ms", gap)
    await lab.scan(working(BOB))
    fields: Any = await lab.store.redis.hgetall(lab.store.keys.usage)
    assert fields[f"log/{gap // 3_600_000}/GPU-0".encode()].endswith(f'[{gap},"unknown",-1]'.encode()) or (
        f'[{gap},"unknown",-1]'.encode() in b"".join(fields.values())
    )
    assert [one for one in await log(lab.store) if one[0] == "busy"] == [["busy", -1, f"uid:{BOB}"]] * 2


async def test_the_log_follows_the_card(store: Store) -> None:
    """A card that gets another index goes on in its own log, without an entry."""
    host = CardHost(store)
    host.uses["GPU-b"] = [BOB]
    await host.scan("GPU-a", "GPU-b")
    await host.scan("GPU-b", "GPU-a")
    assert await log(store, "GPU-a") == [["free", -1]]
    assert await log(store, "GPU-b") == [["busy", -1, f"uid:{BOB}"]]


async def test_an_hour_of_endless_changes_stays_small(lab: Lab) -> None:
    """Entries are added up when there are many; the last one is what is seen now."""
    for turn in range(300):
        await lab.scan(working(*((BOB,) if turn % 2 else (ALICE, BOB))))
    sizes = await lab.store.redis.hvals(lab.store.keys.usage)
    assert max(map(len, sizes)) < 5000
    assert (await log(lab.store))[-1] == ["busy", -1, f"uid:{BOB}"]
    fields: Any = await lab.store.redis.hgetall(lab.store.keys.usage)
    times = [
        one[0]
        for name, text in sorted(fields.items())
        if name.startswith(b"log/") and name.endswith(b"/GPU-0")
        for one in msgspec.json.decode(b"[" + text + b"]")
    ]
    assert times == sorted(times)


async def test_what_cannot_be_read_is_replaced(lab: Lab) -> None:
    """Fields that somebody has written to keep no scan from being stored, and a report from being made."""
    await lab.scan(working(BOB))
    usage = lab.store.keys.usage
    fields: Any = await lab.store.redis.hkeys(usage)
    for name in (*fields, b"names", b"summed", b"carried", b"sums/x", b"held/x", b"log/x/y"):
        await lab.store.redis.hset(usage, name, b"[{" * 3000)
    await lab.scan(working(ALICE))
    await Summing(lab.settings, lab.store).update()
    found = await report(lab.store, Question(host="h", since_ms=0, until_ms=10**13))
    assert {row.key for row in found.rows} <= {str(ALICE), str(BOB)}
    assert (await log(lab.store))[-1] == ["busy", -1, f"uid:{ALICE}"]
