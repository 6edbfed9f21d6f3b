"""What a script reads of a host: what it looks at, not all that is kept."""

from collections.abc import Awaitable
from typing import Any

import pytest
from support.reservations import ALICE, BOB, unused

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.script_replies import Reserved

pytestmark = pytest.mark.anyio
GPUS = 12
FULL = range(GPUS)


class _Host:
    """A host of twelve GPUs."""

    def __init__(self, store: Store) -> None:
        self.store, self.allocator, self._made = store, Allocator(Settings(), store), 0

    async def scan(self) -> None:
        await observe(self.store, [unused(index) for index in range(GPUS)], 1.0, 60.0)

    async def reserve(self, uid: int, *gpus: int, **more: Any) -> Reserved:
        self._made += 1
        wanted: dict[str, Any] = {"gpus": gpus} if gpus else {"count": 1}
        ask = AllocationRequest(kind="manual", user=f"u{uid}", uid=uid, **wanted, **more)
        return await self.allocator.reserve(ask, f"o{self._made}")

    async def reads(self, action: Awaitable[Reserved], code: str) -> dict[str, int]:
        """How often an action that ends so reads one reservation, all of them, and the queue."""
        await self.store.redis.config_resetstat()
        assert (await action).code == code
        told: Any = await self.store.redis.info("commandstats")
        names = ("cmdstat_hget", "cmdstat_hgetall", "cmdstat_hvals", "cmdstat_hmget")
        return {name[8:]: told.get(name, {"calls": 0})["calls"] for name in names}


@pytest.fixture
async def host(store: Store) -> _Host:
    """All GPUs are free."""
    host = _Host(store)
    await host.scan()
    return host


async def test_a_grant_reads_no_reservation(host: _Host) -> None:
    """However many there are, also for a user with a limit."""
    await host.reserve(ALICE)  # Since then, the allocator knows the GPUs.
    few = await host.reads(host.reserve(ALICE), "granted")
    for index in (3, 4, 5, 6):
        await host.reserve(BOB, index)
    assert await host.reads(host.reserve(ALICE), "granted") == few
    assert (few["hget"], few["hgetall"]) == (0, 0)
    limited = await host.reads(host.reserve(ALICE, limit=4), "granted")
    assert (limited["hget"], limited["hgetall"]) == (7, 0)  # Of the held GPUs, their holders.
    assert (await host.reserve(ALICE, limit=4)).code == "limit"


async def test_the_queue_is_read_if_a_gpu_is_free(host: _Host) -> None:
    """On a full host, who asks is refused without a look at those who wait."""
    for index in FULL:
        await host.reserve(BOB, index)
    empty = await host.reads(host.reserve(ALICE), "refused")
    for _ in range(3):
        await host.reserve(BOB, 0, wait=True)
    assert await host.reads(host.reserve(ALICE), "refused") == empty
    assert empty["hvals"] == 0


async def test_a_free_gpu_that_is_waited_for_is_claimed(host: _Host) -> None:
    """Then the queue is read: GPU 0 is free, but a request for it and for a held GPU comes first."""
    for index in FULL[1:]:
        await host.reserve(BOB, index)
    assert (await host.reserve(BOB, 0, 1, wait=True)).code == "queued"
    assert (await host.reads(host.reserve(ALICE), "refused"))["hvals"] == 1
    assert (await host.reserve(ALICE, 0)).counts == {"available": 0, "claimed": 1, "held": 11}


@pytest.mark.parametrize("count", [1, 3, 6])
async def test_the_least_recently_released_gpus_are_granted(host: _Host, count: int) -> None:
    """Few are searched for, many are sorted: both find the same, whatever their order was."""
    order = [7, 2, 11, 4, 9, 0, 5, 1, 10, 3, 8, 6]
    for place, index in enumerate(order):
        await host.store.redis.hset(host.store.keys.gpu(index), "last_released", 1000 + place)
    ask = AllocationRequest(kind="manual", user="a", uid=ALICE, count=count)
    reply = await host.allocator.reserve(ask, "first")
    assert reply.reservation
    assert reply.reservation.gpus == tuple(sorted(order[:count]))
