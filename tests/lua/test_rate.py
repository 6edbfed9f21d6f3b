"""The limits on events: short uses add up, and constant changes cause a bounded number."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from support.containers import in_container
from support.reservations import BOB, process, unused, used

from bench.truth.clock import Clock, LabStore
from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.gpu import GpuUsage, Hint, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe

pytestmark = pytest.mark.anyio
CONFIRM = 10.0


class Host:
    """GPU 0 with scans at chosen intervals, on a clock of its own."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self._clock = store, clock

    async def scan(self, after: float, *processes: Any, usage: GpuUsage | None = None) -> list[str]:
        """Store a scan after some seconds, of these processes or this usage; return the event types."""
        self._clock.now_ms += round(after * 1000)
        seen = usage or (used(0, *processes) if processes else unused(0))
        newest: Any = await self.store.redis.xrevrange(self.store.keys.events, count=1)
        last = f"({newest[0][0].decode()}" if newest else "-"
        await observe(self.store, [seen], CONFIRM, 60.0)
        rows: Any = await self.store.redis.xrange(self.store.keys.events, last)
        return [decode(fields).type.removeprefix("canhazgpu.") for _, fields in rows]

    async def events(self) -> list[Event]:
        """Return all events."""
        rows: Any = await self.store.redis.xrange(self.store.keys.events)
        return [decode(fields) for _, fields in rows]


@pytest.fixture
async def host(redis_url: str) -> AsyncIterator[Host]:
    """A host with one GPU."""
    clock = Clock()
    store = LabStore(redis_url, f"test-{uuid.uuid4().hex[:12]}", clock)
    yield Host(store, clock)
    await store.close()


async def test_a_single_short_look_accuses_nobody(host: Host) -> None:
    """Use that one scan sees, or that returns once, is no violation."""
    for _ in range(3):
        for _ in range(2):
            await host.scan(1, process(BOB))
            assert "violation.opened" not in await host.scan(1)
        await host.scan(601)


async def test_bursts_add_up_to_one_violation(host: Host) -> None:
    """Use of one second every half minute is a violation after ten seconds in total."""
    published = []
    for _ in range(13):
        await host.scan(29)
        published += await host.scan(1, process(BOB))
    assert published.count("violation.opened") == 1
    closed = [event for event in await host.events() if event.type.endswith("violation.closed")]
    assert [one.data["duration_s"] for one in closed] == [29]  # Of the last burst: the next look was then.


async def test_scans_far_apart_do_not_make_one_return_a_violation(host: Host) -> None:
    """One return counts at most half the confirmation time."""
    await host.scan(1, process(BOB))
    await host.scan(59)
    assert "violation.opened" not in await host.scan(59, process(BOB))


async def test_bursts_that_are_far_apart_are_forgotten(host: Host) -> None:
    """After ten minutes without use, a candidate starts again."""
    for _ in range(30):
        assert "violation.opened" not in await host.scan(1, process(BOB))
        assert await host.store.redis.hlen(host.store.keys.pending) == 1
        for _ in range(21):
            await host.scan(29)
    assert await host.store.redis.hlen(host.store.keys.pending) == 0


async def test_a_change_of_name_is_no_event(host: Host) -> None:
    """A process that changes its name causes no event; its last name is stored."""
    await host.scan(1, process(BOB))
    assert "violation.opened" in await host.scan(10, process(BOB))
    for number in range(20):
        renamed = msgspec.structs.replace(process(BOB), name=f"step {number}")
        assert await host.scan(100, renamed) == []
    (text,) = await host.store.redis.hvals(host.store.keys.open)
    assert b"step 19" in text


@pytest.mark.timeout(600)  # 1,752 scans.
async def test_new_processes_at_every_scan_have_a_bound(host: Host) -> None:
    """New processes every minute cause few events in a day, and the last state is published."""
    await host.scan(1, process(BOB))
    await host.scan(10, process(BOB))
    published = []
    for pid in range(2000, 2000 + 1440):
        published += await host.scan(60, msgspec.structs.replace(process(BOB), pid=pid))
    assert 5 < published.count("violation.updated") < 80
    assert published.count("gpu.changed") <= 24 * 60
    late = []
    for _ in range(300):
        late += await host.scan(60, msgspec.structs.replace(process(BOB), pid=99))
    assert late.count("violation.updated") == 1
    assert "violation.closed" in await host.scan(10)


async def test_use_on_and_off_at_every_scan_has_a_bound(host: Host) -> None:
    """Use that changes at every scan causes sixty events, then one per minute."""
    published = []
    for number in range(300):
        published += await host.scan(1, process(BOB))
        published += await host.scan(1)
        usage: Any = await host.store.redis.hget(host.store.keys.gpu(0), "usage")
        assert json.loads(usage)["in_use"] is False, number
    assert 60 < published.count("gpu.changed") <= 60 + 10 + 2
    await host.scan(1, process(BOB))
    late = []
    for _ in range(3):
        late += await host.scan(60)
    assert late.count("gpu.changed") <= 1
    newest = [event for event in await host.events() if event.type == "canhazgpu.gpu.changed"][-1]
    assert newest.data["in_use"] is False


async def test_violations_on_and_off_have_a_bound(host: Host) -> None:
    """Violations that start and end all the time have a bound; one that is over ends."""
    published = []
    for _ in range(60):
        await host.scan(1, process(BOB))
        published += await host.scan(10, process(BOB))
        assert "violation.closed" in await host.scan(1)
    for _ in range(240):
        published += await host.scan(1, process(BOB))
        published += await host.scan(10, process(BOB))
        published += await host.scan(1)
    assert 60 <= published.count("violation.opened") <= 60 + 60
    await host.scan(1, process(BOB))
    await host.scan(10, process(BOB))
    late = [await host.scan(seconds) for seconds in (1, 30, 31)]
    assert [one.count("violation.closed") for one in late].count(1) <= 1
    assert await host.store.redis.hlen(host.store.keys.open) == 0
    for _ in range(2):  # After some hours of nothing the next one ends at once.
        await host.scan(7200)
        await host.scan(1, process(BOB))
        await host.scan(10, process(BOB))
        assert "violation.closed" in await host.scan(1)


async def test_what_is_bridged_ends_with_its_kind(host: Host) -> None:
    """A violation that is kept open across pauses ends when the GPU is reserved."""
    for _ in range(100):
        await host.scan(1, process(BOB))
        await host.scan(10, process(BOB))
        if "violation.closed" not in await host.scan(1):
            break
    assert await host.store.redis.hlen(host.store.keys.open) == 1
    await host.store.redis.hset(
        host.store.keys.gpu(0), mapping={"holder": "r1", "holder_uid": "1001", "holder_user": "alice"}
    )
    assert "violation.closed" in await host.scan(1)


async def test_a_proof_is_told_at_once(host: Host) -> None:
    """A newly proven user is published with the scan that shows it, in spite of the limit."""
    await host.scan(1, process(BOB))
    await host.scan(10, process(BOB))
    for pid in range(2000, 2050):
        await host.scan(1, msgspec.structs.replace(process(BOB), pid=pid))
    unproven = process(BOB, person=None, evidence="unknown")
    assert "violation.updated" in await host.scan(1, unproven)


async def test_another_proof_of_the_same_person_has_a_bound(host: Host) -> None:
    """Changing evidence for the same user is subject to the limit."""
    await host.scan(1, process(BOB))
    await host.scan(10, process(BOB))
    published = []
    for number in range(60):
        published += await host.scan(1, process(BOB, evidence=("loginuid", "uid")[number % 2]))
    assert published.count("violation.updated") <= 6


def pointing_at(uid: int, pid: int) -> ProcessUse:
    """Return a container's process with a hint at this user."""
    hint = Hint(user=f"u{uid}", uid=uid, source=f"its environment has USER=u{uid}")
    return in_container(pid=pid, user=f"root in docker {pid:012x}", hint=hint)


def with_uid(uid: int, pid: int) -> ProcessUse:
    """Return the process of a container that its cgroup does not name."""
    return in_container(pid=pid, user=f"uid {uid} in a container", container=None)


@pytest.mark.parametrize("made", [pointing_at, with_uid])
async def test_containers_that_look_like_ever_other_users_have_a_bound(
    host: Host, made: Callable[[int, int], ProcessUse]
) -> None:
    """Whoever starts containers chooses what they point at and their uids, so all share one limit."""
    published = []
    for number in range(150):
        boxes = [made(2000 + number * 5 + one, 10 + number * 5 + one) for one in range(5)]
        await host.scan(1, *boxes)
        published += await host.scan(10, *boxes)
        published += await host.scan(1)
    assert 60 < published.count("violation.opened") <= 60 + 60 + 5
    assert published.count("violation.updated") < 60
    for _ in range(3):
        await host.scan(31)
    assert await host.store.redis.hlen(host.store.keys.open) == 0


async def test_containers_that_point_to_many_users_at_once_are_one_violation(host: Host) -> None:
    """Its processes keep their hints, and it has none itself."""
    boxes = [pointing_at(2000 + one, 10 + one) for one in range(50)]
    await host.scan(1, *boxes)
    assert (await host.scan(10, *boxes)).count("violation.opened") == 1
    (text,) = await host.store.redis.hvals(host.store.keys.open)
    body = json.loads(json.loads(text)["body"])
    assert (body["hint"], body["user"]) == (None, "root in docker 00000000000a and 49 more")
    assert {one["hint"]["user"] for one in body["processes"]} == {f"u{2000 + one}" for one in range(50)}
    few = boxes[:2]
    await host.scan(1, *few)
    await host.scan(10, *few)
    assert await host.store.redis.hlen(host.store.keys.open) == 2
    assert "violation.closed" in await host.scan(1)


@pytest.mark.parametrize("state", ["unknown", "error"])
async def test_a_gpu_that_can_be_read_on_and_off_has_a_bound(host: Host, state: str) -> None:
    """What somebody runs can decide whether a GPU can be read; its state is always the current one."""
    published = []
    for number in range(150):
        for seen in (unused(0, state, reason="r"), unused(0)):
            published += await host.scan(1, usage=seen)
            kept: Any = await host.store.redis.hget(host.store.keys.gpu(0), "state")
            assert kept.decode() == seen.state, number
    for kind in ("gpu.changed", "gpu.failed", "gpu.recovered"):
        assert published.count(kind) <= 60 + 10 + 2, kind
    late = []
    for _ in range(2):
        late += await host.scan(61)
    events = await host.events()
    last = [one.type for one in events if one.type in {"canhazgpu.gpu.failed", "canhazgpu.gpu.recovered"}]
    assert last[-1:] == ["canhazgpu.gpu.recovered"] * (state == "error")
    assert [one for one in events if one.type == "canhazgpu.gpu.changed"][-1].data["state"] == "ok"
