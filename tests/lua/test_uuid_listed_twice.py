"""A UUID that the driver lists for two GPUs for a while: each GPU keeps its state."""

import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio


@pytest.fixture
def host(store: Store) -> CardHost:
    """A host without cards."""
    return CardHost(store)


async def test_a_card_whose_uuid_was_listed_twice_keeps_its_holder(host: CardHost) -> None:
    """The holder keeps the card through the next renumbering, and is not accused."""
    both = ("B", "A")
    await host.scan(*both)
    await host.reserve(ALICE, 1)
    host.uses = {"A": (ALICE,)}
    await host.scan(*both)
    await host.scan("B", "A", "A")
    await host.scan(*both)
    await host.scan("A", "B")
    await host.scan("A", "B")
    assert (await host.reserve(BOB, 0)).code == "refused"
    assert await host.holders() == {"A": ALICE}
    assert await host.violating_uids() == {}
    states = await host.states()
    assert [states[index].usage.uuid for index in (0, 1)] == ["A", "B"]


async def test_what_a_uuid_that_was_listed_twice_leaves_goes_with_it(host: CardHost) -> None:
    """It is removed in that scan without a `gpu.failed` event, even if a new card takes its index."""
    await host.scan("B", "A")
    for _ in range(2):
        await host.scan("B", "A", "A")
        await host.scan("B", "A")
        assert sorted(await host.states()) == [0, 1]
    await host.scan("B", "A", "A")
    await host.scan("A", "B", "C")
    await host.scan("A", "B", "C")
    states = await host.states()
    assert {index: (one.usage.uuid, one.usage.state) for index, one in states.items()} == {
        0: ("A", "ok"),
        1: ("B", "ok"),
        2: ("C", "ok"),
    }
    assert not await host.published("gpu.failed")
    reasons = {event.data["reason"] for event in await host.published("gpu.removed")}
    assert reasons == {"its UUID is the one of another GPU"}


async def test_what_is_held_of_a_gpu_whose_uuid_was_listed_twice_is_kept_in_time(host: CardHost) -> None:
    """A reserved or drained GPU is kept for `missing_timeout`, and removed at once when it is free."""
    await host.scan("A", "A", "A")
    await host.reserve(ALICE, 1)
    await host.drain(2)
    await host.scan("A")
    await host.scan("A")
    assert sorted(await host.states()) == [0, 1, 2]
    await host.allocator.release(ReleaseOrder(uid=ALICE, by="alice", reason="released"), "release")
    await host.drain(2, None)
    await host.scan("A")
    assert sorted(await host.states()) == [0]
