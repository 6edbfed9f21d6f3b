"""Series of bookings: all of their windows are promised, or none."""

import pytest
from support.booking_lab import HOUR, Host, host

from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


def days(one: Host, *hours: float) -> tuple[int, ...]:
    """Return further begins, in hours from now."""
    return tuple(one.now_ms + round(hour * HOUR) for hour in hours)


async def test_a_series_is_booked_as_a_whole(store: Store) -> None:
    """Each window is a booking with an event; all have the id of the series."""
    one = await host(store)
    result = await one.book(10, 12, 2, more=days(one, 34, 58))
    assert result.code == "done"
    series = result.booked[0].series
    assert series
    assert [booking.id for booking in result.booked] == [f"{series}.{place}" for place in (1, 2, 3)]
    assert [(booking.begin_ms - one.now_ms) / HOUR for booking in result.booked] == [10, 34, 58]
    assert {booking.end_ms - booking.begin_ms for booking in result.booked} == {2 * HOUR}
    assert await one.bookings.list() == list(result.booked)
    told = await one.events("booking.created")
    assert [(data["id"], data["series"]) for data in told] == [(b.id, series) for b in result.booked]
    assert (await one.book(35, 36)).code == "refused"
    assert (await one.booked(36, 37)).series is None


async def test_if_one_window_is_not_possible_none_is_promised(store: Store) -> None:
    """The answer names the window, and nothing is stored."""
    one = await host(store)
    await one.booked(34, 40, 1)
    before = await store.redis.hgetall(store.keys.scan)
    result = await one.book(10, 12, 2, more=days(one, 22, 35, 58))
    assert (result.code, result.at, result.booked) == ("refused", 2, ())
    assert len(await one.bookings.list()) == 1
    assert await store.redis.hgetall(store.keys.scan) == before
    assert len(await one.events("booking.created")) == 1
    assert await one.code(9, 2) == "granted"


async def test_the_windows_of_a_series_count_for_each_other(store: Store) -> None:
    """Windows that overlap need GPUs together."""
    one = await host(store)
    assert (await one.book(10, 30, 2, more=days(one, 20))).at == 1
    assert (await one.book(10, 30, 1, more=days(one, 20))).code == "done"


@pytest.mark.parametrize(
    ("limits", "code", "at"),
    [
        ({"most_bookings": 2}, "many", 2),
        ({"most_hours": 11}, "hours", 2),
        ({"limit": 1}, "limit", 0),
        ({"most_bookings": 3, "most_hours": 12, "limit": 2}, "done", 0),
    ],
)
async def test_the_limits_count_all_of_them(store: Store, limits: dict[str, int], code: str, at: int) -> None:
    """Each window is a booking, with its GPU-hours."""
    one = await host(store)
    result = await one.book(10, 12, 2, more=days(one, 34, 58), **limits)
    assert (result.code, result.at) == (code, at)
    assert len(await one.bookings.list()) == (3 if code == "done" else 0)


async def test_a_series_is_cancelled_by_its_id(store: Store) -> None:
    """One booking of it can be cancelled alone; others' series are out of reach."""
    one = await host(store)
    result = await one.book(10, 12, 1, more=days(one, 34, 58))
    series = result.booked[0].series
    assert series
    other = await one.book(10, 12, 1, more=days(one, 34), user="u1002", uid=1002)
    reply = await one.bookings.cancel(1001, "c1", "u1001", ids=[f"{series}.2"])
    assert [row["id"] for row in reply["cancelled"]] == [f"{series}.2"]
    assert other.booked[0].series
    refused = await one.bookings.cancel(1001, "c2", "u1001", ids=[series, other.booked[0].series])
    assert refused["code"] == "not-yours"
    reply = await one.bookings.cancel(1001, "c3", "u1001", ids=[series])
    assert [row["id"] for row in reply["cancelled"]] == [f"{series}.1", f"{series}.3"]
    assert [booking.uid for booking in await one.bookings.list()] == [1002, 1002]


async def test_a_repeated_call_gets_the_same_series(store: Store) -> None:
    """Nothing is booked twice if the answer was lost."""
    one = await host(store)
    first = await one.book(10, 12, 1, more=days(one, 34))
    one.turn -= 1
    assert await one.book(10, 12, 1, more=days(one, 34)) == first
    assert await one.bookings.known(1001, one.operation()) == ()
    assert await one.bookings.known(1001, "o1") == first.booked
