"""The order in which GPUs are allocated, and refusals in spite of damaged records."""

from datetime import UTC, datetime

import msgspec
import pytest

from canhazgpu.config.settings import Allocation, Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio


async def allocator(store: Store, gpus: int, policy: str = "lru") -> Allocator:
    """Reserve some idle GPUs."""
    await scan(store, gpus)
    return Allocator(Settings(allocation=msgspec.convert({"policy": policy}, Allocation)), store)


async def scan(store: Store, gpus: int) -> None:
    """Store a scan with all of them idle."""
    usages = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(gpus)]
    await observe(store, usages, 1.0, 60.0)


def ask(uid: int = 1001, **wanted: object) -> AllocationRequest:
    """Request one GPU, as a manual reservation."""
    return msgspec.structs.replace(
        AllocationRequest(kind="manual", user=f"u{uid}", uid=uid, count=1, duration_ms=3_600_000), **wanted
    )


async def test_the_longest_released_comes_first_over_a_months_end(store: Store) -> None:
    """The GPU that was released first comes first, also across the end of a month."""
    hands = await allocator(store, 3)
    moments = ("2026-02-01T01:00:00", "2026-01-31T23:00:00", "2026-03-01T00:00:00")
    for index, text in enumerate(moments):
        ms = round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        await store.redis.hset(store.keys.gpu(index), "last_released", str(ms))
    got = [(await hands.reserve(ask(), f"o{turn}")).reservation for turn in range(3)]
    assert [one.gpus for one in got if one] == [(1,), (0,), (2,)]


async def test_what_others_do_makes_nobodys_gpu_forgotten(store: Store) -> None:
    """A user gets the GPU that they had last, however much others reserve."""
    hands = await allocator(store, 3, "mru-per-user")
    await hands.reserve(ask(gpus=(1,), count=None), "mine")
    await hands.release(ReleaseOrder(uid=1001, by="u1001", reason="released"), "mine")
    for turn in range(150):
        await scan(store, 3)
        assert (await hands.reserve(ask(1002 + turn % 3, count=3), f"o{turn}")).code == "granted"
        order = ReleaseOrder(uid=1002 + turn % 3, by="x", reason="released")
        assert (await hands.release(order, f"o{turn}"))[0] == "released"
    await scan(store, 3)
    got = (await hands.reserve(ask(), "again")).reservation
    assert got
    assert got.gpus == (1,)


async def test_what_is_held_is_refused_whatever_it_lacks(store: Store) -> None:
    """A held GPU is refused even if its record lacks fields."""
    hands = await allocator(store, 2)
    held = (await hands.reserve(ask(gpus=(0,), count=None), "first")).reservation
    assert held
    whole = msgspec.to_builtins(held)
    changes: tuple[dict[str, object], ...] = (
        {"expires_ms": None},
        {"gpus": []},
        {"gpus": {}},
        {"note": None},
        {"started_ms": "now"},
    )
    for change in changes:
        text = msgspec.json.encode({**whole, **change})
        await store.redis.hset(store.keys.reservations, held.id, text)
        refused = await hands.reserve(ask(1002, gpus=(0,), count=None), f"second-{change}")
        assert (refused.code, refused.blocked[0].why) == ("refused", "held"), change
        assert (await hands.expire())[0] is False
    assert (await hands.reserve(ask(1002), "other")).code == "granted"
