"""What is promised to bookings: what can be granted and booked beside them, and how they begin."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from support.booking_lab import HOUR, IDLE, host, process

from canhazgpu.events.gpu import AMD, NVIDIA
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Booked
from canhazgpu.service.bookings.bookings import BookingRequest

pytestmark = pytest.mark.anyio


async def test_what_ends_before_a_booking_can_have_its_gpus(store: Store) -> None:
    """A reservation that ends before the window gets any GPU; one that would last into it does not."""
    one = await host(store)
    await one.booked(4, 8, 2)
    assert await one.code(5) == "refused"
    assert await one.code(3.9, 2) == "granted"


async def test_a_run_without_a_time_limit_gets_what_is_not_promised(store: Store) -> None:
    """Of two GPUs of which one is promised, a run without an end gets one, and a second run none."""
    one = await host(store)
    await one.booked(4, 8)
    assert await one.code(None) == "granted"
    refused = await one.reserve(None)
    assert (refused.code, refused.counts) == ("refused", {"available": 0, "held": 1, "promised": 1})


async def test_a_refusal_says_until_when_it_could_be_had(store: Store) -> None:
    """A refused request would be granted with the end that the refusal names, and not with a later one."""
    one = await host(store, 3)
    first = await one.booked(4, 8, 1)
    await one.booked(6, 7, 1, gpus=(2,))
    assert (await one.reserve(None, 3)).until_ms == first.begin_ms
    assert await one.code(None, 1) == "granted"
    refused = await one.reserve(None, 1)
    assert refused.until_ms == first.begin_ms
    left = (refused.until_ms - one.now_ms) / HOUR
    assert await one.code(left + 0.01) == "refused"
    assert await one.code(left - 0.01) == "granted"


async def test_a_named_gpu_is_kept_by_name(store: Store) -> None:
    """A window that names a GPU leaves all others to requests without an end."""
    one = await host(store, 3)
    await one.booked(4, 8, gpus=(1,))
    got = await one.reserve(None, 2)
    assert got.reservation
    assert got.reservation.gpus == (0, 2)
    assert await one.code(None) == "refused"
    assert await one.code(5, gpus=(1,)) == "refused"
    assert await one.code(3, gpus=(1,)) == "granted"


async def test_windows_one_after_another_need_the_same_gpu_once(store: Store) -> None:
    """Windows that do not overlap promise their GPUs together only once."""
    one = await host(store)
    for begin in range(4):
        await one.booked(4 + begin, 5 + begin)
    assert await one.code(None) == "granted"
    assert (await one.book(4.5, 5.5)).code == "refused"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ((4, 8, 1), "done"),
        ((4, 8, 2), "refused"),
        ((8, 9, 2), "done"),
        ((1, 4, 2), "done"),
        ((1, 4.1, 2), "refused"),
        ((5, 6, 3), "never"),
    ],
)
async def test_a_booking_beside_another(store: Store, wanted: tuple[float, float, int], code: str) -> None:
    """A booking is refused only if too few GPUs are left at some moment of its window."""
    one = await host(store)
    await one.booked(4, 8)
    assert (await one.book(*wanted)).code == code


@pytest.mark.parametrize(("hours", "codes"), [(4, ("refused", "done")), (None, ("refused", "refused"))])
async def test_what_is_reserved_is_free_after_its_end(
    store: Store, hours: float | None, codes: Sequence[str]
) -> None:
    """A reservation can be booked behind its end, and not at all behind one that has no end."""
    one = await host(store, 1)
    assert await one.code(hours) == "granted"
    assert [(await one.book(begin, 9)).code for begin in (3, 5)] == list(codes)


async def test_a_drained_gpu_is_not_promised(store: Store) -> None:
    """A GPU that is drained, in error, or used without a reservation cannot be booked."""
    one = await host(store, 1)
    await one.allocator.drain(0, "d", gpus=(0,), reason="broken", by="root")
    assert (await one.book(4, 8)).code == "refused"
    await one.allocator.drain(0, "u", gpus=(0,), reason=None, by="root")
    await one.scan(gpu0=process(1009))
    assert (await one.book(4, 8)).code == "refused"
    await one.scan(gpu0=IDLE)
    await one.booked(4, 8)


async def test_vendors_are_counted_apart(store: Store) -> None:
    """A window of one vendor leaves the GPUs of the other to requests."""
    one = await host(store, 4)
    await one.scan(gpu2={"vendor": AMD}, gpu3={"vendor": AMD})
    await one.booked(4, 8, 2, vendor=NVIDIA)
    assert await one.code(None, 1, vendor=NVIDIA) == "refused"
    assert (await one.book(5, 6, 1, vendor=NVIDIA)).code == "refused"
    assert await one.code(None, 1, vendor=AMD) == "granted"
    assert await one.code(None, 1, gpus=(3,)) == "granted"
    assert await one.code(None, 1, gpus=(0,)) == "refused"


async def test_a_named_window_over_two_others(store: Store) -> None:
    """A booking of any GPU needs one that nobody has named for the whole of its window."""
    one = await host(store, 2)
    await one.booked(10, 20, gpus=(0,))
    await one.booked(20, 30, gpus=(1,))
    assert (await one.book(15, 25)).code == "refused"
    await one.booked(15, 20)
    await one.booked(20, 25)


async def test_an_extension_keeps_the_promise(store: Store) -> None:
    """A reservation cannot be extended into a window that needs its GPU."""
    one = await host(store, 2)
    assert await one.code(2, 2) == "granted"
    booked = await one.booked(4, 8)

    async def extend(hours: float, *gpus: int) -> dict[str, Any]:
        add = round(hours * HOUR)
        return await one.allocator.extend(1002, one.operation(), gpus=gpus, add_ms=add, most_ms=None)

    refused = await extend(3, 0, 1)
    assert (refused["code"], refused["until_ms"]) == ("promised", booked.begin_ms)
    assert (await extend(1, 0, 1))["code"] == "extended"
    assert [record.expires_ms - record.started_ms for record in await one.held()] == [3 * HOUR]  # type: ignore[operator]


async def test_an_extension_beside_the_promise(store: Store) -> None:
    """A reservation can be extended as long as enough other GPUs are left, and no window names its own."""
    one = await host(store, 3)
    assert await one.code(2, gpus=(0,)) == "granted"
    await one.booked(4, 8, gpus=(2,))
    await one.booked(5, 6)
    extended = await one.allocator.extend(1002, "x", gpus=None, add_ms=9 * HOUR, most_ms=None)
    assert extended["code"] == "extended"
    assert await one.code(9, gpus=(1,)) == "refused"


async def test_the_queue_keeps_the_promise(store: Store) -> None:
    """A waiting request does not get a promised GPU; a later one that ends in time passes it."""
    one = await host(store, 1)
    booked = await one.booked(4, 8)
    long = await one.reserve(None, wait=True)
    assert long.code == "queued"
    assert await one.code(3) == "granted"
    await one.release(0)
    await one.scan()
    assert [request.id for request in await one.allocator.waiting()] == [long.id]
    reply = await one.bookings.cancel(1001, "c", "u1001", ids=[booked.id])
    assert (reply["code"], reply["granted"]) == ("done", [long.id])


async def test_a_booking_begins_as_a_reservation(store: Store) -> None:
    """At its begin a booking becomes a manual reservation of its user that ends when the window does."""
    one = await host(store)
    booked = await one.booked(0, 4, 2, note="course", label="team")
    await one.bookings.begin()
    (record,) = await one.held()
    assert (record.kind, record.uid, record.gpus, record.expires_ms) == (
        "manual",
        1001,
        (0, 1),
        booked.end_ms,
    )
    assert (record.note, record.label, record.booking) == ("course", "team", booked.id)
    assert await one.bookings.list() == []
    (begun,) = await one.events("booking.begun")
    assert (begun["id"], begun["reservation"], begun["gpus"]) == (booked.id, record.id, [0, 1])
    assert not await store.redis.hexists(store.keys.scan, "windows")


async def test_another_free_gpu_is_taken(store: Store) -> None:
    """A GPU that is in use at the begin is passed over if another is free."""
    one = await host(store, 2)
    await one.booked(0, 4)
    await one.scan(gpu0=process(1009))
    await one.bookings.begin()
    assert [record.gpus for record in await one.held()] == [(1,)]
    assert await one.events("booking.late") == []


async def test_a_late_booking_gets_the_next_gpu(store: Store) -> None:
    """A booking whose GPU is in use says so once, and gets the next free GPU before all others."""
    one = await host(store, 1)
    booked = await one.booked(0, 4)
    await one.scan(gpu0=process(1009))
    assert await one.bookings.begin() > 3 * 3600
    await one.bookings.begin()
    (late,) = await one.events("booking.late")
    assert late["obstacles"] == [{"gpu": 0, "why": "in_use", "users": ["u1009"]}]
    waiting = await one.reserve(1, wait=True)
    assert waiting.code == "queued"
    await one.scan(gpu0=IDLE)
    assert await one.held() == []
    await one.bookings.begin()
    (record,) = await one.held()
    assert record.booking == booked.id


async def test_what_was_just_released_is_waited_for(store: Store) -> None:
    """A GPU without a scan since its release makes a booking wait, but not late."""
    one = await host(store, 1)
    await one.booked(0, 4)
    assert await one.code(1, kind="slurm") == "granted"
    await one.release(0)
    assert await one.bookings.begin() <= 60
    assert await one.events("booking.late") == []
    await one.scan()
    await one.bookings.begin()
    assert len(await one.held()) == 1


async def test_a_late_booking_that_waits_for_an_administrator_keeps_nothing(store: Store) -> None:
    """A late booking of more GPUs than can be allocated keeps no GPU from others until that changes."""
    one = await host(store, 2)
    await one.booked(0, 4, 2)
    await one.allocator.drain(0, "d", gpus=(0,), reason="broken", by="root")
    waiting = await one.reserve(1, wait=True)
    await one.bookings.begin()
    assert [record.id for record in await one.held()] == [waiting.id]


async def test_a_window_that_has_passed_is_missed(store: Store) -> None:
    """A booking whose window passes while no service runs is removed, and an event says so."""
    one = await host(store, 1)
    booked = await one.booked(0, 4)
    past = msgspec.structs.replace(
        booked, begin_ms=booked.begin_ms - 9 * HOUR, end_ms=booked.end_ms - 9 * HOUR
    )
    await store.redis.hset(store.keys.bookings, booked.id, msgspec.json.encode(_stored(past)))
    await one.bookings.begin()
    (missed,) = await one.events("booking.missed")
    assert (missed["id"], missed["reason"]) == (booked.id, "off")
    assert await one.bookings.list() == []
    assert await one.code(None) == "granted"


def _stored(booking: Booked) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(booking).items() if value is not None}


async def test_a_request_that_has_joined_the_queue_is_seen(store: Store) -> None:
    """A booking that did not consider the last request in the queue has to look at the queue again."""
    one = await host(store, 1)
    assert await one.code(1) == "granted"
    assert (await one.reserve(1, wait=True)).code == "queued"
    (waiting,) = await one.allocator.waiting()
    assert (await one.book(5, 6, seen=waiting.place - 1)).code == "newer"
    assert (await one.book(5, 6, seen=waiting.place)).code == "done"


async def test_whose_booking_it_is(store: Store) -> None:
    """A booking can be cancelled by its user, by the beginning of its id, and not by others."""
    one = await host(store, 1)
    booked = await one.booked(4, 8)

    async def cancel(uid: int, name: str) -> str:
        reply = await one.bookings.cancel(uid, one.operation(), f"u{uid}", ids=[name])
        return str(reply["code"])

    assert await cancel(1002, booked.id) == "not-yours"
    assert await cancel(1001, "b1-1") == "missing"
    await one.booked(9, 10)
    assert await cancel(1001, "b") == "several"
    assert await cancel(1001, booked.id) == "done"
    (cancelled,) = await one.events("booking.cancelled")
    assert (cancelled["id"], cancelled["by"]) == (booked.id, "u1001")


async def test_a_repeated_booking_is_one_booking(store: Store) -> None:
    """An operation that is repeated returns the same booking."""
    one = await host(store, 2)
    request = BookingRequest(
        user="u1", uid=1001, count=1, begin_ms=one.now_ms + HOUR, end_ms=one.now_ms + 2 * HOUR
    )
    first, second = [await one.bookings.book(request, "same") for _ in range(2)]
    assert first == second
    assert len(await one.bookings.list()) == 1
