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


async def test_a_booking_begins_on_the_gpu_that_it_names(store: Store) -> None:
    """A booking that names a GPU gets that one, although another would come first."""
    one = await host(store, 3)
    await one.booked(0, 4, gpus=(2,))
    await one.bookings.begin()
    assert [record.gpus for record in await one.held()] == [(2,)]
