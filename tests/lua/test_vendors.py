"""The scripts give a request only GPUs of the vendor that it asks for, and keep none of the others for it."""

from typing import Any

import msgspec
import pytest

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import AMD, NVIDIA, GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio
MIXED = (NVIDIA, NVIDIA, AMD, AMD)


async def allocator(store: Store, name: str = "MI300X") -> Allocator:
    """Return an allocator of four idle GPUs, two of each vendor."""
    await scan(store, name)
    return Allocator(Settings(), store)


async def scan(store: Store, name: str = "MI300X") -> None:
    """Store a scan with all GPUs idle."""
    usages = [
        GpuUsage(index=index, uuid=f"GPU-{index}", name=name, vendor=vendor)
        for index, vendor in enumerate(MIXED)
    ]
    await observe(store, usages, 1.0, 60.0)


def ask(uid: int = 1001, count: int = 1, **wanted: object) -> AllocationRequest:
    """Request GPUs, as a manual reservation."""
    return msgspec.structs.replace(
        AllocationRequest(kind="manual", user=f"u{uid}", uid=uid, count=count, duration_ms=3_600_000),
        **wanted,
    )


async def test_a_request_gets_gpus_of_its_vendor(store: Store) -> None:
    """The first GPUs of the vendor are granted; too many of it are refused, with their number."""
    hands = await allocator(store)
    await hands.reserve(ask(vendor=NVIDIA), "one")
    two = await hands.reserve(ask(count=2, vendor=AMD), "two")
    assert two.reservation
    assert two.reservation.gpus == (2, 3)
    full = await hands.reserve(ask(vendor=AMD), "full")
    assert (full.code, full.counts) == ("refused", {"available": 0, "held": 2})
    never = await hands.reserve(ask(count=3, vendor=NVIDIA), "never")
    assert (never.code, never.managed) == ("never", 2)


async def test_a_waiting_request_holds_back_only_its_vendor(store: Store) -> None:
    """A request that waits for AMD's GPUs claims none of NVIDIA's, and gets the first that is released."""
    hands = await allocator(store)
    await hands.reserve(ask(count=2, vendor=AMD), "held")
    waits = await hands.reserve(ask(1002, vendor=AMD, wait=True), "waits")
    assert waits.code == "queued"
    other = await hands.reserve(ask(1003, count=2, vendor=NVIDIA), "other")
    assert other.reservation
    assert other.reservation.gpus == (0, 1)
    await hands.release(ReleaseOrder(uid=1001, by="u1001", reason="released"), "release")
    await scan(store)
    (got,) = [one for one in await hands.reservations() if one.uid == 1002]
    assert got.gpus == (2,)


async def test_a_request_becomes_impossible_with_the_gpus_of_its_vendor(store: Store) -> None:
    """A waiting request leaves the queue if too few GPUs of its vendor stay managed."""
    hands = await allocator(store)
    await hands.reserve(ask(count=2, vendor=AMD), "held")
    await hands.reserve(ask(1002, count=2, vendor=AMD, wait=True), "waits")
    await hands.reserve(ask(1003, count=1, vendor=AMD, wait=True), "waits too")
    reply, _ = await hands.manage(0, "manage", gpus=[0, 1, 2], force=True, by="root")
    assert (reply["code"], len(reply["left"])) == ("done", 1)
    assert [one.uid for one in await hands.waiting()] == [1003]


async def test_a_name_is_no_vendor(store: Store) -> None:
    """A model whose name looks like the field in the stored usage changes nothing."""
    hands = await allocator(store, '"vendor":"amd"')
    done = await hands.reserve(ask(count=2, vendor=NVIDIA), "two")
    assert done.reservation
    assert done.reservation.gpus == (0, 1)


async def test_a_gpu_from_before_is_one_of_nvidia(store: Store) -> None:
    """Usage that an older service has stored says no vendor: it knew only NVIDIA."""
    hands = await allocator(store)
    for index in range(4):
        text: Any = await store.redis.hget(store.keys.gpu(index), "usage")
        old = text.replace(b'"vendor":"amd",', b"").replace(b'"vendor":"nvidia",', b"")
        assert old != text
        await store.redis.hset(store.keys.gpu(index), "usage", old)
    assert (await hands.reserve(ask(vendor=AMD), "amd")).code == "never"
    assert (await hands.reserve(ask(count=4, vendor=NVIDIA), "nvidia")).code == "granted"
