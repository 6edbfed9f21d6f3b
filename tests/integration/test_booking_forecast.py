"""The forecast of the queue with bookings: it agrees with the scripts, and no booking delays who waits."""

import random
from typing import Any

import msgspec
import pytest
from support.booking_lab import HOUR, Host, host, process

from canhazgpu.events.gpu import AMD, NVIDIA, GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Waiting, Window
from canhazgpu.events.spelling.gpu_numbers import instance_index
from canhazgpu.service.status.booking_forecast import delayed_by, next_windows
from canhazgpu.service.status.promised_windows import Promises, cards_of
from canhazgpu.service.status.queue_eta import queue_eta
from canhazgpu.service.status.queue_status import queue
from canhazgpu.service.storage.snapshot import Snapshot, snapshot

pytestmark = pytest.mark.anyio
SEEDS = range(60)
HALF = 0.5
PROFILE = "3g.40gb"


def waiting(seen: Snapshot, hours: float | None, count: int, **more: Any) -> Snapshot:
    """Return the host with one request that waits, the last one."""
    place = len(seen.waiting) + 1
    lasts = None if hours is None else round(hours * HOUR)
    one = Waiting(
        id=f"w{place}",
        kind="manual",
        user="u1009",
        uid=1009,
        place=place,
        queued_ms=1,
        count=count,
        duration_ms=lasts,
        attached=True,
        **more,
    )
    return msgspec.structs.replace(seen, waiting=(*seen.waiting, one))


async def crowded(store: Store, rng: random.Random) -> Host:
    """Return a host of both vendors with some reservations, some bookings, and use without a reservation.

    GPU 2 may be divided into MIG instances.
    """
    one = await host(store, 5)
    if rng.random() < HALF:
        one.usages += [
            GpuUsage(index=instance_index(2, number), uuid=f"MIG-{number}", name="H100", profile=PROFILE)
            for number in range(2)
        ]
    await one.scan(gpu3={"vendor": AMD}, gpu4={"vendor": AMD})
    for _ in range(rng.randrange(3)):
        vendor = rng.choice((NVIDIA, AMD))
        await one.reserve(rng.choice((None, 3, 6)), rng.randint(1, 2), vendor=vendor)
        if rng.random() < HALF:
            await one.reserve(rng.choice((None, 3)), 1, profile=PROFILE)
    for _ in range(rng.randrange(7)):
        begin = rng.choice((0, 1, 2, 5, 8))
        named = rng.choice(((0,), (1, 2), (4,), (instance_index(2, 1),), None, None, None))
        what: dict[str, Any] = {"gpus": named} if named else {"vendor": rng.choice((NVIDIA, AMD, None))}
        await one.book(begin, begin + rng.choice((1.5, 2.5, 4.5)), rng.randint(1, 3), **what)
    if rng.random() < 0.3:
        await one.scan(gpu2=process(1008))
    await one.bookings.begin()
    return one


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_forecast_is_what_the_scripts_do(store: Store, seed: int) -> None:
    """A request is foreseen to be served now, and a window to be possible, exactly if a script does it."""
    rng = random.Random(seed)
    one = await crowded(store, rng)
    for _ in range(12):
        seen = await snapshot(store)
        vendor = rng.choice((NVIDIA, AMD))
        cards = {gpu.usage.index: gpu.usage.uuid for gpu in seen.gpus}
        if rng.random() < HALF:
            hours, count = rng.choice((None, 0.7, 1.8, 4.2, 7.1)), rng.randint(1, 3)
            named = rng.choice(((1, 2), (instance_index(2, 0),), (0, instance_index(2, 1)), None, None, None))
            wanted: dict[str, Any] = rng.choice(({"vendor": vendor}, {"profile": PROFILE}))
            if named and set(named) <= set(cards):
                wanted, count = {"gpus": named}, len(named)
            foreseen = queue_eta(waiting(seen, hours, count, **wanted)).get("w1") == seen.now_ms
            assert ((await one.code(hours, count, **wanted)) == "granted") == foreseen
        else:
            begin, count = rng.choice((0.2, 1.2, 2.2, 5.2, 8.2)), rng.randint(1, 3)
            named = rng.choice(((0,), (1,), (2,), (instance_index(2, 0),), (3, 4), None, None))
            named = named if set(named or ()) <= set(cards) else (2,)
            window = Window(
                id="",
                uid=1,
                begin_ms=one.now_ms + round(begin * HOUR),
                end_ms=one.now_ms + round((begin + 2.1) * HOUR),
                count=len(named) if named else count,
                vendor=None if named else vendor,
                cards=tuple(cards[index] for index in named) if named else None,
            )
            foreseen = Promises(seen.windows, cards_of(seen), seen.now_ms).fits(window)
            what: dict[str, Any] = {"gpus": named} if named else {"vendor": vendor}
            result = await one.book(begin, begin + 2.1, count, **what)
            assert (result.code == "done") == foreseen


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_booking_that_is_made_delays_nobody(store: Store, seed: int) -> None:
    """With a window that delays nobody, no request is served later; so it is with those in a refusal."""
    rng = random.Random(seed)
    one = await crowded(store, rng)
    seen = await snapshot(store)
    for _ in range(rng.randint(1, 4)):
        what: dict[str, Any] = rng.choice(({"vendor": NVIDIA}, {"vendor": AMD}, {"profile": PROFILE}))
        seen = waiting(seen, rng.choice((None, 2, 3, 5)), rng.randint(1, 3), **what)
    before = queue_eta(seen)
    begin_ms = one.now_ms + round(rng.choice((0.2, 1.2, 2.2, 5.2)) * HOUR)
    window = Window(
        id="b",
        uid=1,
        begin_ms=begin_ms,
        end_ms=begin_ms + 2 * HOUR,
        count=rng.randint(1, 2),
        vendor=rng.choice((NVIDIA, AMD)),
    )
    found = next_windows(seen, window, 3, seen.now_ms + 30 * 24 * HOUR)
    assert len(found) <= 3
    tried = [window, *(msgspec.structs.replace(window, begin_ms=at, end_ms=at + 2 * HOUR) for at in found)]
    for number, other in enumerate(tried):
        delayed = delayed_by(seen, [other])
        assert number == 0 or not delayed
        if not delayed:
            after = queue_eta(msgspec.structs.replace(seen, windows=(*seen.windows, other)))
            assert all(after[name] <= moment for name, moment in before.items())


async def test_who_waits_came_first(store: Store) -> None:
    """A booking of GPUs that a request is foreseen to get is refused, and one behind it is made."""
    one = await host(store, 2)
    assert await one.code(2, 2) == "granted"
    seen = waiting(await snapshot(store), 4, 2)

    def window(begin: float) -> Window:
        begin_ms = one.now_ms + round(begin * HOUR)
        return Window(id="b", uid=1, begin_ms=begin_ms, end_ms=begin_ms + HOUR, count=1)

    assert [bool(delayed_by(seen, [window(begin)])) for begin in (3, 5.9, 6.5)] == [True, True, False]
    endless = waiting(await snapshot(store), None, 1)
    assert not delayed_by(endless, [window(3)])
    assert delayed_by(waiting(endless, None, 1), [window(3)])


async def test_who_could_begin_at_any_time(store: Store) -> None:
    """A request whose start cannot be foreseen is not delayed either."""
    one = await host(store, 3)
    assert await one.code(None, 1) == "granted"
    seen = waiting(await snapshot(store), None, 3)
    assert queue_eta(seen) == {}
    window = Window(id="b", uid=1, begin_ms=one.now_ms + HOUR, end_ms=one.now_ms + 2 * HOUR, count=1)
    assert delayed_by(seen, [window])
    assert not delayed_by(await snapshot(store), [window])


async def test_who_waits_for_an_administrator_keeps_nothing_from_a_booking(store: Store) -> None:
    """A request for more GPUs than can be allocated refuses no booking, until it can be served again."""
    one = await host(store, 3)
    assert await one.code(None, 1) == "granted"
    await one.allocator.drain(0, one.operation(), gpus=(2,), reason="broken", by="root")
    window = Window(id="b", uid=1, begin_ms=one.now_ms + HOUR, end_ms=one.now_ms + 2 * HOUR, count=1)
    named = waiting(await snapshot(store), None, 2, gpus=(1, 2))
    assert not delayed_by(waiting(named, None, 3), [window])
    await one.allocator.drain(0, one.operation(), gpus=(2,), reason=None, by="root")
    assert delayed_by(waiting(await snapshot(store), None, 3), [window])


async def divided(store: Store) -> Host:
    """Return a host of two GPUs, the first of which is divided."""
    one = await host(store, 2)
    one.usages += [
        GpuUsage(index=instance_index(0, number), uuid=f"MIG-{number}", name="H100", profile=PROFILE)
        for number in range(2)
    ]
    await one.scan()
    return one


async def test_instances_beside_a_promise_that_lacks_gpus(store: Store) -> None:
    """A window of an instance fits although the only whole GPU is promised and drained."""
    one = await divided(store)
    await one.booked(4, 8, 1)
    await one.allocator.drain(0, one.operation(), gpus=[1], reason="broken", by="root")
    seen = await snapshot(store)
    begin_ms = one.now_ms + 4 * HOUR

    def fits(*cards: str) -> bool:
        window = Window(id="", uid=1, begin_ms=begin_ms, end_ms=begin_ms + HOUR, count=1, cards=cards or None)
        return Promises(seen.windows, cards_of(seen), seen.now_ms).fits(window)

    assert [fits("MIG-0"), fits("GPU-0"), fits()] == [True, True, False]


async def test_a_booking_of_the_instances_that_somebody_waits_for(store: Store) -> None:
    """A request for an instance that has no foreseen start is delayed by windows that leave too few."""
    one = await divided(store)
    assert await one.code(None, 2, profile=PROFILE) == "granted"
    seen = waiting(await snapshot(store), None, 1, profile=PROFILE)

    def delayed(*cards: str, count: int = 1) -> bool:
        begin_ms = one.now_ms + HOUR
        named = cards or None
        window = Window(id="b", uid=1, begin_ms=begin_ms, end_ms=begin_ms + HOUR, count=count, cards=named)
        return bool(delayed_by(seen, [window]))

    assert [delayed(), delayed("GPU-1"), delayed("MIG-0"), delayed("GPU-0")] == [False, False, False, True]


async def test_who_waits_for_instances_does_not_wait_for_a_number_of_gpus(store: Store) -> None:
    """The booking of a number of GPUs is the reason only for those who wait for whole ones."""
    one = await divided(store)
    await one.booked(1, 2, 1)
    await one.booked(3, 4, gpus=(instance_index(0, 1),))
    seen = waiting(await snapshot(store), None, 1)
    seen = waiting(seen, None, 1, profile=PROFILE)
    seen = waiting(seen, 2, 1, gpus=(instance_index(0, 1),))
    seen = waiting(seen, None, 1, gpus=(instance_index(0, 1),))
    assert ["; booked from " in row["reason"] for row in queue(seen)] == [True, False, False, True]
