"""Bookings that nobody uses: what they have become is released after a time, unless it was used once."""

import time
from typing import Any

import msgspec
import pytest
from support.reservations import ALICE, BOB, Lab, process, unused, used

from canhazgpu.config.settings import Bookings as BookingSettings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.bookings.bookings import BookingRequest, Bookings
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


async def begun(lab: Lab, gpus: tuple[int, ...] = (0,)) -> str:
    """Book GPUs from now on for eight hours; return the id of the reservation that the booking has become."""
    await lab.scan()
    bookings = Bookings(lab.store, lab.allocator)
    now_ms = round(time.time() * 1000)
    request = BookingRequest(user="u1001", uid=ALICE, begin_ms=now_ms, end_ms=now_ms + 8 * HOUR_MS, gpus=gpus)
    assert (await bookings.book(request, "book")).code == "done"
    await bookings.begin()
    (record,) = await lab.allocator.reservations()
    return record.id


async def reasons(lab: Lab) -> list[str]:
    """Return why reservations were released."""
    return [event.data["reason"] for event in await lab.published("released")]


async def test_a_booking_that_is_never_used_is_released_in_the_same_step(store: Store) -> None:
    """After an hour, which its begin has announced, it is released, and the queue is served."""
    lab = Lab(store)
    name = await begun(lab)
    rows: Any = await store.redis.xrange(store.keys.events)
    (told,) = [fields[b"data"] for _, fields in rows if fields[b"type"] == b"canhazgpu.booking.begun"]
    data = msgspec.json.decode(told)
    assert data["deadline"] > data["started"]
    ask = AllocationRequest(kind="manual", user="u1002", uid=BOB, gpus=(0,), duration_ms=1000, wait=True)
    assert (await lab.allocator.reserve(ask, "bob")).code == "queued"
    await lab.later(59)
    await lab.scan()
    assert await reasons(lab) == []
    await lab.later(2)
    await lab.scan()
    (event,) = await lab.published("released")
    assert (event.subject, event.data["reason"]) == (f"reservation/{name}", "no_show")
    assert event.data["idle"] == event.data["started"]
    assert (await lab.scan()).granted != ()


async def test_what_was_used_once_stays(store: Store) -> None:
    """Use of one of its GPUs is enough, and later idle times do not count."""
    lab = Lab(store)
    name = await begun(lab, (0, 1))
    await lab.later(30)
    await lab.scan(used(1, process(ALICE)))
    assert (await lab.record(name)).unused_ms is None
    await lab.later(300)
    await lab.scan()
    assert await reasons(lab) == []


async def test_use_by_somebody_else_is_none(store: Store) -> None:
    """A process of another user on it does not count as the holder's."""
    lab = Lab(store)
    await begun(lab)
    await lab.later(61)
    await lab.scan(used(0, process(BOB)))
    assert await reasons(lab) == ["no_show"]


@pytest.mark.parametrize(
    "usage", [unused(0, "error", reason="lost"), unused(0, "unknown", reason="x"), used(0)]
)
async def test_what_is_unknown_may_be_use(store: Store, usage: GpuUsage) -> None:
    """While the use is unknown nothing is released, and the time starts again after it."""
    lab = Lab(store)
    await begun(lab)
    await lab.later(120)
    await lab.scan(usage)
    await lab.scan()
    assert await reasons(lab) == []
    await lab.later(61)
    await lab.scan()
    assert await reasons(lab) == ["no_show"]


async def test_after_a_gap_between_scans_the_time_starts_again(store: Store) -> None:
    """Nobody knows what was used while nothing was scanned."""
    lab = Lab(store)
    await begun(lab)
    await lab.later(61)
    seen: Any = await store.redis.hget(store.keys.scan, "at_ms")
    await store.redis.hset(store.keys.scan, "at_ms", int(seen) - HOUR_MS)
    await lab.scan()
    assert await reasons(lab) == []


async def test_what_was_not_booked_has_no_such_time(store: Store) -> None:
    """A reservation from now on is never released for that."""
    lab = Lab(store)
    name = await lab.reserve()
    assert (await lab.record(name)).unused_ms is None
    await lab.later(300)
    await lab.scan()
    assert await reasons(lab) == []


@pytest.mark.parametrize("before", [True, False])
async def test_with_0s_nothing_is_released(store: Store, *, before: bool) -> None:
    """Neither a booking that begins, nor one that began with another setting."""
    lab = Lab(store)
    never = msgspec.structs.replace(lab.settings, bookings=BookingSettings(no_show=0.0))
    if before:
        lab.settings, lab.allocator = never, Allocator(never, store)
    name = await begun(lab)
    assert ((await lab.record(name)).unused_ms is None) == before
    lab.settings, lab.allocator = never, Allocator(never, store)
    await lab.later(300)
    await lab.scan()
    assert await reasons(lab) == []
