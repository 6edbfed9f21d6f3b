"""GPUs that a request names by UUID, when a scan renumbers the cards before the script runs."""

from typing import Any

import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio
AT_FIRST = {0: "A", 1: "B", 2: "C"}


@pytest.fixture
async def host(store: Store) -> CardHost:
    """Three cards."""
    host = CardHost(store)
    await host.scan("A", "B", "C")
    return host


async def test_a_grant(host: CardHost) -> None:
    """The card is granted that was named, and an index is what is there now."""
    await host.scan("C", "A", "B")
    assert (await host.reserve(ALICE, 0, uuids={0: "A"})).code == "granted"
    assert (await host.reserve(BOB, 0)).code == "granted"
    assert await host.holders() == {"A": ALICE, "C": BOB}


async def test_a_request_in_the_queue(host: CardHost) -> None:
    """It waits for the card that was named, and stores no UUIDs."""
    await host.reserve(BOB, 0)
    await host.scan("C", "A", "B")
    assert (await host.reserve(ALICE, 0, uuids={0: "A"}, wait=True)).code == "queued"
    (waiting,) = await host.allocator.waiting()
    assert waiting.gpus == (1,)
    rows: Any = await host.store.redis.hgetall(host.store.keys.queue)
    assert b"uuids" not in next(iter(rows.values()))


async def test_changes(host: CardHost) -> None:
    """What was named is released, extended, disowned and drained."""
    await host.reserve(ALICE, 0)
    await host.reserve(ALICE, 2)
    await host.scan("C", "A", "B")
    order = ReleaseOrder(uid=ALICE, by="u", reason="released", gpus=(0,), uuids={0: "A"})
    assert (await host.allocator.release(order, "first"))[0] == "released"
    assert await host.holders() == {"C": ALICE}
    named: dict[str, Any] = {"gpus": [2], "uuids": {2: "C"}}
    reply = await host.allocator.extend(ALICE, "more", add_ms=1000, most_ms=None, **named)
    assert reply["code"] == "extended"
    assert (await host.allocator.disown(ALICE, "not mine", undo=False, **named))["code"] == "none"
    reply = await host.allocator.drain(0, "out", reason="fan", by="root", **named)
    assert reply["changed"] == [0]
    every: dict[str, Any] = {"gpus": [1, 2], "uuids": {1: "B", 2: "C"}}
    reply, _ = await host.allocator.manage(0, "these", force=False, by="root", **every)
    assert reply["code"] == "done"
    assert {uuid for uuid, one in (await host.by_uuid()).items() if one.unmanaged} == {"A"}


async def test_a_card_that_is_unknown_now(host: CardHost) -> None:
    """No other card is taken for one that is gone."""
    assert (await host.reserve(ALICE, 1, uuids={1: "X"})).code == "never"
    assert await host.holders() == {}
