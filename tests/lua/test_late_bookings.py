"""A booking that is due and lacks GPUs: nobody takes those that it waits for."""

import time
from typing import Any

import anyio
import pytest
from support.booking_lab import HOUR, IDLE, Host, host, process

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.allocator import AllocationRequest

pytestmark = pytest.mark.anyio


async def extend(one: Host, hours: float) -> dict[str, Any]:
    """Extend the reservation of user 1002."""
    return await one.allocator.extend(
        1002, one.operation(), gpus=None, add_ms=round(hours * HOUR), most_ms=None
    )


async def overdue(one: Host) -> None:
    """Grant a job on GPU 0 that is over its time and has not ended."""
    run = AllocationRequest(kind="slurm", user="u1007", uid=1007, gpus=(0,), timeout_ms=1)
    assert (await one.allocator.reserve(run, one.operation())).code == "granted"
    await anyio.sleep(0.01)


async def unknown(one: Host) -> None:
    """Make GPU 0 unreadable."""
    await one.scan(gpu0={"state": "unknown", "reason": "x"})


@pytest.mark.parametrize("hinder", [overdue, unknown])
async def test_a_gpu_that_should_be_free_is_not_counted_yet(store: Store, hinder: Any) -> None:
    """A booking that is due waits for an overdue or unreadable GPU, and gets one that is free before."""
    one = await host(store)
    assert await one.code(1, gpus=(1,)) == "granted"
    booked = await one.booked(0, 8)
    await hinder(one)
    waiting = await one.reserve(None, uid=1005, wait=True)
    assert waiting.code == "queued"
    await one.release(1)
    await one.scan()
    assert [record.uid for record in await one.held() if record.uid == 1005] == []
    await one.bookings.begin()
    assert [record.gpus for record in await one.held() if record.booking == booked.id] == [(1,)]


async def test_an_extension_takes_nothing_from_a_late_booking(store: Store) -> None:
    """A reservation is not extended if a booking that has been late since before needs its GPU at its end."""
    one = await host(store)
    assert await one.code(1, gpus=(0,)) == "granted"
    await one.booked(0, 8)
    await one.scan(gpu1=process(1009))
    (held,) = await one.held()
    refused = await extend(one, 5)
    assert (refused["code"], refused["until_ms"]) == ("promised", held.expires_ms)
    await one.scan(gpu1=IDLE)
    assert (await extend(one, 5))["code"] == "extended"


async def test_an_extension_takes_nothing_from_a_booking_that_will_be_late(store: Store) -> None:
    """The same holds before the window begins, and not if the window is over by then."""
    one = await host(store)
    assert await one.code(3, gpus=(0,)) == "granted"
    await one.booked(2, 2.5)
    late = await one.booked(2.5, 8)
    await one.scan(gpu1=process(1009))
    refused = await extend(one, 1)
    assert refused["code"] == "promised"
    await one.bookings.cancel(1001, "c", "u1001", ids=[late.id])
    assert (await extend(one, 1))["code"] == "extended"


async def test_who_uses_a_gpu_does_not_keep_it_from_a_late_booking(store: Store) -> None:
    """A user of a GPU that a late booking waits for gets no reservation for it."""
    one = await host(store, 1)
    await one.booked(0, 8)
    await one.scan(gpu0=process(1002))
    assert await one.code(5) == "refused"
    assert await one.code(5, gpus=(0,)) == "refused"
    assert await one.code(5, wait=True) == "queued"


async def test_who_uses_a_gpu_reserves_it_until_a_booking_lacks_it(store: Store) -> None:
    """Before a booking that lacks a GPU, its user can reserve that until the booking begins."""
    one = await host(store, 1)
    booked = await one.booked(4, 8)
    await one.scan(gpu0=process(1002))
    refused = await one.reserve(5)
    assert (refused.code, refused.until_ms) == ("refused", booked.begin_ms)
    assert await one.code(3.9) == "granted"


async def test_who_uses_a_gpu_that_no_booking_counts_on_reserves_it(store: Store) -> None:
    """A GPU that is used by its user can be reserved beyond a booking that has enough others."""
    one = await host(store, 2)
    await one.scan(gpu0=process(1002))
    await one.booked(4, 8)
    assert await one.code(5) == "granted"


@pytest.mark.parametrize("kind", ["slurm", "pbs", "kubernetes"])
async def test_the_job_of_a_scheduler_is_not_bound_by_bookings(store: Store, kind: str) -> None:
    """A scheduler's job gets the GPUs that it was placed on; the booking waits for others."""
    one = await host(store, 3)
    await one.booked(4, 8, 1)
    await one.booked(4, 8, gpus=(0,))
    assert await one.code(None, gpus=(0, 1, 2)) == "refused"
    assert await one.code(None, gpus=(0, 1, 2), kind=kind) == "granted"


async def test_a_booking_begins_after_the_clock_was_put_forward(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan after a jump of the clock wakes the loop, which sleeps until the former time of the begin."""
    one = await host(store)
    booked = await one.booked(1, 8)
    looks: list[float] = []
    looked = anyio.Event()
    begin = one.bookings.begin

    async def look() -> float:
        looks.append(await begin())
        looked.set()
        return looks[-1]

    monkeypatch.setattr(one.bookings, "begin", look)
    async with anyio.create_task_group() as tasks:
        await tasks.start(one.bookings.run)
        await looked.wait()
        one.bookings.check()
        await anyio.wait_all_tasks_blocked()
        assert len(looks) == 1
        looked = anyio.Event()
        jumped = booked.begin_ms / 1000 + 1
        monkeypatch.setattr(time, "time", lambda: jumped)
        one.bookings.check()
        with anyio.fail_after(20):
            await looked.wait()
        tasks.cancel_scope.cancel()
    assert len(looks) == 2
