"""Maintenance: GPUs are drained from its begin to its end, and those whom it concerns are named."""

from typing import Any

import msgspec
import pytest
from support.booking_lab import HOUR, Host, host

from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Booked

pytestmark = pytest.mark.anyio
ROOT: dict[str, Any] = {"user": "root", "uid": 0}
MINUTE = 1 / 60


async def plan(one: Host, begin: float, end: float, *gpus: int, reason: str = "new cooler") -> Booked:
    """Plan maintenance."""
    return await one.booked(begin, end, gpus=gpus, drain=reason, **ROOT)


def earlier(text: str | bytes, hours: float) -> dict[str, Any]:
    """Return a booking or a window as it would be some hours later."""
    row: dict[str, Any] = msgspec.json.decode(text)
    return row | {name: row[name] - round(hours * HOUR) for name in ("begin_ms", "end_ms")}


async def pass_time(one: Host, hours: float) -> None:
    """Make bookings earlier, as if time had passed, and look at what is due."""
    redis, keys = one.store.redis, one.store.keys
    rows: Any = await redis.hgetall(keys.bookings)
    moved = [earlier(text, hours) for text in rows.values()]
    for row in moved:
        await redis.hset(keys.bookings, row["id"], msgspec.json.encode(row))
    windows: Any = msgspec.json.decode(await redis.hget(keys.scan, "windows") or b"[]")
    shifted = [earlier(msgspec.json.encode(row), hours) for row in windows]
    await redis.hset(keys.scan, "windows", msgspec.json.encode(shifted))
    await one.bookings.begin()


async def drained(one: Host) -> dict[int, str]:
    """Return the GPUs that are drained, with the reasons."""
    found = {}
    for usage in one.usages:
        reason = await one.store.redis.hget(one.store.keys.gpu(usage.index), "drained")
        if reason:
            found[usage.index] = str(reason.decode() if isinstance(reason, bytes) else reason)
    return found


async def test_its_gpus_are_drained_from_begin_to_end(store: Store) -> None:
    """Before and after it, they can be reserved; what waits is served when it ends."""
    one = await host(store)
    name = (await plan(one, 2, 4, 0, 1)).id
    assert await one.code(1, 2) == "granted"
    assert await one.code(None) == "refused"
    await one.release(0, 1)
    await one.scan()
    await pass_time(one, 3)
    assert await drained(one) == {0: "new cooler", 1: "new cooler"}
    assert await one.code(0.1) == "refused"
    waiting = await one.reserve(None, wait=True)
    assert waiting.code == "queued"
    await pass_time(one, 2)
    assert await drained(one) == {}
    assert [record.id for record in await one.held()] == [waiting.id]
    assert await one.bookings.list() == []
    told = await one.events("booking.created", "booking.begun", "booking.ended")
    assert [data["id"] for data in told] == [name] * 3
    assert len(await one.events("gpu.drained")) == len(await one.events("gpu.undrained")) == 2


async def test_it_names_whom_it_concerns(store: Store) -> None:
    """Who holds its GPUs beyond its begin, and whose booking names one or lacks some; nobody else."""
    one = await host(store, 5)
    assert await one.code(9, gpus=(0,)) == "granted"
    assert await one.code(1, gpus=(1,), uid=1003, user="u1003") == "granted"
    assert await one.code(None, gpus=(3,), uid=1004, user="u1004") == "granted"
    named = await one.booked(6, 7, gpus=(1,), uid=1005, user="u1005")
    short = await one.booked(5, 7, 2, uid=1006, user="u1006")
    await one.booked(20, 21, 2, uid=1007, user="u1007")
    await plan(one, 4, 8, 0, 1, 2)
    (told,) = [data for data in await one.events("booking.created") if data.get("drain")]
    assert {row["user"]: row.get("booking") or row["gpus"] for row in told["concerned"]} == {
        "u1002": [0],
        "u1005": named.id,
        "u1006": short.id,
    }


async def test_what_holds_its_gpus_is_named_again_when_it_begins(store: Store) -> None:
    """A reservation continues on a GPU that is drained."""
    one = await host(store)
    await plan(one, 2, 4, 0)
    await store.redis.hdel(store.keys.scan, "windows")  # It was granted before.
    held = await one.reserve(None, gpus=(0,))
    await pass_time(one, 3)
    (told,) = await one.events("booking.begun")
    assert [row["reservation"] for row in told["concerned"]] == [held.id]
    assert [record.id for record in await one.held()] == [held.id]


async def test_other_drains_stay(store: Store) -> None:
    """What an administrator drained before or meanwhile stays so; a cancelled one ends at once."""
    one = await host(store, 3)
    await one.allocator.drain(0, one.operation(), gpus=(0,), reason="broken", by="root")
    planned = await plan(one, 1, 5, 0, 1, 2)
    await pass_time(one, 2)
    assert await drained(one) == {0: "broken", 1: "new cooler", 2: "new cooler"}
    await one.allocator.drain(0, one.operation(), gpus=(1,), reason="burnt", by="root")
    reply = await one.bookings.cancel(0, one.operation(), "root", ids=[planned.id])
    assert reply["code"] == "done"
    assert await drained(one) == {0: "broken", 1: "burnt"}


async def test_two_at_a_time(store: Store) -> None:
    """A GPU of both stays drained until the end of the later one, for its reason."""
    one = await host(store)
    await plan(one, 1, 4, 0, 1)
    await plan(one, 1.5, 8, 1, reason="firmware")
    await pass_time(one, 2)
    assert await drained(one) == {0: "new cooler", 1: "new cooler"}
    await pass_time(one, 3)
    assert await drained(one) == {1: "firmware"}
    await pass_time(one, 4)
    assert await drained(one) == {}


async def test_nobody_ran_at_that_time(store: Store) -> None:
    """Maintenance that never began is missed, and drains nothing."""
    one = await host(store)
    await plan(one, 1, 2, 0)
    await pass_time(one, 5)
    assert await drained(one) == {}
    assert [data["reason"] for data in await one.events("booking.missed")] == ["off"]


async def test_while_it_lasts_later_bookings_count_on_its_gpus(store: Store) -> None:
    """GPUs in maintenance are back at its end: what begins after it can be promised."""
    one = await host(store)
    await plan(one, 1, 4, 0, 1)
    await pass_time(one, 2)
    assert (await one.book(1, 3)).code == "refused"
    assert (await one.book(3, 5, 2)).code == "done"
    assert (await one.book(6, 8, gpus=(0, 1))).code == "done"


async def test_no_limit_counts_it(store: Store) -> None:
    """It is nobody's use of GPUs, also not that of its administrator."""
    one = await host(store)
    await plan(one, 20, 24, 0, 1)
    assert (await one.book(1, 2, limit=1, most_bookings=1, most_hours=1, **ROOT)).code == "done"
    assert await one.code(0.5, limit=1, **ROOT) == "granted"
