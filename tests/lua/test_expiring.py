"""The end of a manual reservation is announced once, in time, and not for short reservations."""

from typing import Any

import pytest
from support.reservations import ALICE, Lab

from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def lab(store: Store) -> Lab:
    """A host with announcements an hour before the end."""
    return Lab(store, expiry_warning=3600.0)


async def deadlines(lab: Lab) -> list[Any]:
    """Return the announced ends."""
    return [event.data["deadline"] for event in await lab.published("expiring")]


async def test_it_is_announced_once_at_its_moment(lab: Lab) -> None:
    """The script returns when to check again, and announces an end only once."""
    await lab.reserve(hours=8)
    over, left = await lab.allocator.expire()
    assert left is not None
    assert (over, round(left / 60)) == (False, 7 * 60)
    await lab.later(7 * 60 - 1)
    await lab.allocator.expire()
    assert await deadlines(lab) == []
    await lab.later(1)
    await lab.store.redis.script_flush()
    for _ in range(3):
        over, left = await lab.allocator.expire()
        assert left is not None
        assert (over, round(left / 60)) == (False, 60)
    (event,) = await lab.published("expiring")
    assert event.data["deadline"] == event.data["expires"] > event.time


async def test_each_end_is_announced(lab: Lab) -> None:
    """After an extension, the new end is announced."""
    await lab.reserve(hours=8)
    await lab.later(7.5 * 60)
    await lab.allocator.expire()
    await lab.allocator.extend(ALICE, "more", gpus=None, add_ms=4 * 3600_000, most_ms=None)
    await lab.allocator.expire()
    assert len(await deadlines(lab)) == 1
    await lab.later(3.6 * 60)
    await lab.allocator.expire()
    first, second = await deadlines(lab)
    assert first < second


@pytest.mark.parametrize(("hours", "count"), [(1.99, 0), (2.0, 1)])
async def test_what_is_short_is_not_announced(lab: Lab, hours: float, count: int) -> None:
    """Reservations shorter than twice the warning are not announced, unless they were extended."""
    await lab.reserve(hours=hours)
    await lab.later(hours * 60 - 1)
    await lab.allocator.expire()
    assert len(await deadlines(lab)) == count


async def test_what_is_over_is_over(lab: Lab) -> None:
    """After the end, no announcement is made."""
    await lab.reserve(hours=8)
    await lab.later(8 * 60 + 1)
    assert (await lab.allocator.expire())[0]
    assert await deadlines(lab) == []


async def test_runs_and_a_warning_of_0_announce_nothing(store: Store, lab: Lab) -> None:
    """Runs are not announced, and the setting can be 0."""
    await lab.reserve("run", gpus=(1,))
    assert await lab.allocator.expire() == (False, None)
    off = Lab(store)
    await off.reserve(hours=8)
    await off.later(7.9 * 60)
    await off.allocator.expire()
    assert await deadlines(off) == []
