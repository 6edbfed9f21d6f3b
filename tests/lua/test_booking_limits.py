"""How much one user can book, and that named GPUs are what a booking gets."""

import pytest
from support.booking_lab import host

from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


async def test_the_limits_of_a_user(store: Store) -> None:
    """A user cannot book more GPUs at a time, or more GPU-hours in total, than they may."""
    one = await host(store, 4)
    await one.booked(4, 8, 2, limit=3, most_hours=20)
    assert (await one.book(6, 9, 2, limit=3)).code == "limit"
    assert (await one.book(8, 9, 3, limit=3)).code == "done"
    refused = await one.book(20, 30, 1, most_hours=20)
    assert (refused.code, round(refused.hours)) == ("hours", 21)
    assert (await one.book(20, 29, 1, most_hours=20)).code == "done"
    assert (await one.book(4, 8, 2, uid=1002, limit=3, most_hours=20)).code == "done"


async def test_what_is_held_counts_with_what_is_booked(store: Store) -> None:
    """GPUs that a user can still hold when a booking begins count for its limit."""
    one = await host(store, 4)
    assert await one.code(2, 2, uid=1001) == "granted"
    assert (await one.book(1, 3, 1, limit=2)).code == "limit"
    assert (await one.book(1, 3, 1, limit=3)).code == "done"
    assert (await one.book(3, 5, 2, limit=2)).code == "done"
    assert await one.code(None, 1, uid=1003) == "granted"
    assert (await one.book(9, 10, 2, uid=1003, limit=2)).code == "limit"


async def test_what_is_booked_counts_with_what_is_reserved(store: Store) -> None:
    """A reservation is refused if its user would have more GPUs than the limit while a booking is open."""
    one = await host(store, 4)
    await one.booked(2, 4, 2)
    await one.booked(5, 6, 1)
    assert await one.code(3, 1, uid=1001, limit=2) == "limit"
    assert await one.code(None, 1, uid=1001, limit=2) == "limit"
    assert await one.code(1, 2, uid=1001, limit=2) == "granted"
    assert await one.code(3, 1, uid=1001, limit=2) == "limit"
    assert await one.code(3, 1, uid=1001, limit=3) == "granted"
    assert await one.code(3, 1, uid=1002, limit=1) == "granted"


async def test_bookings_one_after_the_other_do_not_add_up(store: Store) -> None:
    """Only what a user has at the same time counts."""
    one = await host(store, 4)
    await one.booked(1, 2, 2)
    await one.booked(3, 4, 2)
    assert (await one.book(1, 4, 2, limit=4)).code == "done"
    assert (await one.book(2, 3, 2, limit=4)).code == "done"
    assert (await one.book(1, 4, 1, uid=1003, limit=4)).code == "refused"
    assert (await one.book(3, 3.5, 1, limit=4)).code == "limit"


async def test_how_many_bookings_a_user_can_have(store: Store) -> None:
    """Each of them costs every allocation some time."""
    one = await host(store, 4)
    await one.booked(1, 2, most_bookings=2)
    await one.booked(2, 3, most_bookings=2)
    assert (await one.book(3, 4, most_bookings=2)).code == "many"
    assert (await one.book(3, 4, most_bookings=2, uid=1002)).code == "done"


async def test_a_booking_begins_on_the_gpu_that_it_names(store: Store) -> None:
    """A booking that names a GPU gets that one, although another would come first."""
    one = await host(store, 3)
    await one.booked(0, 4, gpus=(2,))
    await one.bookings.begin()
    assert [record.gpus for record in await one.held()] == [(2,)]
