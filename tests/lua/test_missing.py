"""`renumber` and `forget` on a real Redis, with cards that vanish, return, are replaced, or look alike."""

import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def host(store: Store) -> CardHost:
    """A host without cards."""
    return CardHost(store)


async def test_a_card_that_returns_has_kept_its_reservation(host: CardHost) -> None:
    """After a reset, a card has its index and its reservation again, and there was no release."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await host.reserve(BOB, 1)
    await host.scan("B")
    assert await host.holders() == {"A": ALICE, "B": BOB}
    host.shorten_missing_timeout(300)
    await host.scan("A", "B")
    states = await host.states()
    assert [states[index].usage.uuid for index in (0, 1)] == ["A", "B"]
    assert await host.holders() == {"A": ALICE, "B": BOB}
    assert not await host.published("reservation.released", "gpu.removed")
    assert "missing_ms" not in await host.gpu_fields(0)
    assert [event.data["index"] for event in await host.published("gpu.failed", "gpu.recovered")] == [1, 0]


async def test_a_missing_card_keeps_its_index_until_another_has_it(host: CardHost) -> None:
    """A missing card keeps its index until another card has it; then it moves above all others."""
    await host.scan("A", "B")
    await host.drain(1)
    await host.scan("A")
    assert (await host.states())[1].usage.reason == "not found by the driver"
    await host.scan("A", "C", "D")
    states = await host.states()
    assert [states[index].usage.uuid for index in range(4)] == ["A", "C", "D", "B"]
    assert states[3].usage.reason == "not found by the driver (was GPU 1)"
    assert (states[3].drained, states[1].drained) == ("noisy fan", "")


async def test_a_missing_card_keeps_its_vendor(host: CardHost) -> None:
    """The form of its UUID tells the vendor of a missing card, which no driver lists."""
    await host.scan("GPU-1a2b3c4d5e6f7788", "PCI-0000-0b-00.0", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
    await host.scan()
    assert [(await host.states())[index].usage.vendor for index in range(3)] == ["amd", "amd", "nvidia"]


async def test_a_replaced_card_inherits_nothing(host: CardHost) -> None:
    """A new card at the same index is free and has no history."""
    await host.scan("A")
    await host.reserve(ALICE, 0)
    host.uses = {"A": (ALICE, BOB)}
    await host.scan("A")
    await host.scan("A")
    assert await host.violating_uids() == {"A": [BOB]}
    await host.scan("C")
    states = await host.by_uuid()
    assert (states["C"].reservation, states["C"].violations, states["C"].last_released_ms) == (None, (), None)
    assert (await host.reserve(BOB, 0)).code == "granted"
    assert await host.holders() == {"A": ALICE, "C": BOB}
    assert not await host.published("violation.closed")


async def test_a_missing_card_is_handed_out_to_nobody(host: CardHost) -> None:
    """A missing card is not allocated, from the moment the renumbering is stored."""
    await host.scan("A", "B")
    await host.cards.settle((), host.now_ms)
    assert (await host.reserve(ALICE, 0)).code == "refused"
    assert (await host.reserve(ALICE, count=1)).code == "refused"
    await host.scan()
    assert (await host.reserve(ALICE, count=1)).code == "refused"
    assert (await host.reserve(ALICE, count=1, wait=True)).code == "queued"
    await host.scan("B")
    assert await host.holders() == {"B": ALICE}


async def test_a_card_that_is_back_before_its_loss_was_stored_is_free_again(host: CardHost) -> None:
    """If the service ends between the renumbering and the scan, a card that is back is free."""
    await host.scan("A", "B")
    await host.cards.settle((), host.now_ms)
    host.restart()
    await host.scan("A", "B")
    assert (await host.reserve(ALICE, count=2)).code == "granted"


async def test_the_reservation_of_a_vanished_card_is_released_in_time(host: CardHost) -> None:
    """After `missing_timeout` the reservation is released, with the reason and the last index."""
    await host.scan("A", "B", "C")
    reserved = await host.reserve(ALICE, 0, 1)
    await host.scan("B", "C")
    host.shorten_missing_timeout(300)
    await host.scan("B", "C")
    await host.scan("B", "C")
    assert await host.holders() == {"A": ALICE, "B": ALICE}
    host.shorten_missing_timeout(301)
    await host.scan("B", "C")
    await host.scan("B", "C")
    assert await host.holders() == {"B": ALICE}
    (event,) = await host.published("reservation.released")
    facts = [event.data[name] for name in ("id", "reason", "gpus", "uuids", "was", "kept")]
    assert facts == [reserved.id, "vanished", [2], ["A"], [0], [0]]
    assert sorted(await host.states()) == [0, 1]
    (gone,) = await host.published("gpu.removed")
    assert (gone.subject, gone.data["uuid"]) == ("gpu/2", "A")


async def test_a_violation_on_a_vanished_card_is_closed_with_it(host: CardHost) -> None:
    """A violation stays open while its card is missing, and is closed when the card is removed."""
    host.uses = {"A": (BOB,)}
    for _ in range(2):
        await host.scan("A", "B")
    for _ in range(3):
        await host.scan("B")
    assert await host.violating_uids() == {"A": [BOB]}
    host.shorten_missing_timeout(601)
    await host.scan("B")
    await host.scan("B")
    assert await host.violating_uids() == {}
    (closed,) = await host.published("violation.closed")
    assert (closed.data["reason"], closed.data["gpu"], closed.data["gpu_uuid"]) == ("vanished", 1, "A")


async def test_a_card_that_was_given_up_and_is_back_is_known(store: Store) -> None:
    """If a removed card returns, its settings and its last use are restored, at any index."""
    host = CardHost(store, policy="mru-per-user")
    await host.scan("A", "B", "C")
    await host.reserve(ALICE, 0)
    await host.drain(0)
    await host.allocator.manage(0, "manage", gpus=[0, 2], force=False, by="root")
    await host.scan("C")
    host.shorten_missing_timeout(601)
    for _ in range(2):
        await host.scan("C")
    assert sorted(await host.states()) == [0]
    released = (await host.published("reservation.released"))[-1]
    await host.scan("C", "D", "B", "A")
    states = await host.by_uuid()
    assert (states["A"].drained, states["A"].reservation) == ("noisy fan", None)
    assert states["A"].last_released_ms is not None
    assert (states["B"].unmanaged, states["C"].unmanaged, states["D"].unmanaged) == (True, False, False)
    assert [event.data for event in await host.published("gpu.drained")][-1] == {
        "index": 3,
        "uuid": "A",
        "reason": "noisy fan",
    }
    assert released.data["reason"] == "vanished"
    await host.drain(3, None)
    await host.scan("C", "D", "B", "A")
    again = await host.reserve(ALICE, count=1)
    assert again.reservation is not None
    assert again.reservation.gpus == (3,)
    assert not await host.store.redis.hkeys(host.store.keys.removed)


async def test_who_waits_for_a_vanished_card_waits_no_more(host: CardHost) -> None:
    """Requests that need a removed card leave the queue; the others stay."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0, 1)
    named = await host.reserve(BOB, 0, wait=True)
    many = await host.reserve(BOB, count=2, wait=True)
    one = await host.reserve(BOB, count=1, wait=True)
    await host.scan("B")
    assert len(await host.allocator.waiting()) == 3
    host.shorten_missing_timeout(601)
    await host.scan("B")
    await host.scan("B")
    left = [(event.data["id"], event.data["reason"]) for event in await host.published("request.left")]
    assert sorted(left) == sorted([(named.id, "impossible"), (many.id, "impossible")])
    assert [waiting.id for waiting in await host.allocator.waiting()] == [one.id]


async def test_a_driver_that_lists_nothing_for_a_minute_costs_nobody_anything(host: CardHost) -> None:
    """If the driver lists nothing for a minute, all cards are back afterwards with their state."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 1)
    for _ in range(3):
        await host.scan()
    states = await host.states()
    assert [states[index].usage.state for index in (0, 1)] == ["error", "error"]
    host.shorten_missing_timeout(60)
    await host.scan("A", "B")
    assert await host.holders() == {"B": ALICE}
    assert not await host.published("gpu.renumbered", "reservation.released")


@pytest.mark.parametrize("how", ["stalled", "restarted", "without Redis"])
async def test_the_time_of_a_missing_card_counts_only_while_scans_come_through(
    host: CardHost, how: str
) -> None:
    """The time of a missing card counts only while scans succeed."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    for _ in range(2):
        await host.scan("B")
    before = int((await host.gpu_fields(1))["missing_ms"])
    {"stalled": host.cards.stall, "restarted": host.restart, "without Redis": host.cards.forget}[how]()
    await host.store.redis.hset(host.store.keys.gpu(1), "missing_ms", str(before - 700_000))
    for _ in range(3):
        await host.scan("B")
    assert int((await host.gpu_fields(1))["missing_ms"]) >= before
    assert await host.holders() == {"A": ALICE}
    host.shorten_missing_timeout(601)
    await host.scan("B")
    assert await host.holders() == {}


async def test_two_cards_with_one_uuid_keep_what_they_have_by_index(host: CardHost) -> None:
    """Two cards with one UUID keep their state by index, and the other cards are followed."""
    await host.scan("X", "X", "B")
    await host.reserve(ALICE, 0)
    await host.reserve(BOB, 2)
    await host.drain(1)
    await host.scan("X", "X", "B")
    await host.scan("X", "X", "C", "B")
    states = await host.states()
    assert [states[index].drained for index in range(4)] == ["", "noisy fan", "", ""]
    holders = {index: one.reservation.uid for index, one in states.items() if one.reservation}
    assert holders == {0: ALICE, 3: BOB}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    "doubtful", [("B", "B"), ("A", "A"), ("X", "X")], ids=["one's", "the other's", "new"]
)
async def test_a_driver_that_tells_one_uuid_of_two_known_cards(
    host: CardHost, doubtful: tuple[str, str], *, restarted: bool
) -> None:
    """If the driver reports one UUID for two known cards, both keep their state."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await host.reserve(BOB, 1)
    for _ in range(2):
        await host.scan(*doubtful)
        assert await host.holders() == {"A": ALICE, "B": BOB}
        if restarted:
            host.restart()
    await host.scan("B", "A")
    assert await host.holders() == {"A": ALICE, "B": BOB}
    states = await host.states()
    assert [states[index].usage.uuid for index in sorted(states)] == ["B", "A"]


@pytest.mark.parametrize(
    "untold", ["", "unknown-0", "GPU-00000000-0000-0000-0000-000000000000"], ids=["empty", "ours", "zeros"]
)
async def test_a_card_whose_uuid_is_not_told_is_the_one_of_its_index(host: CardHost, untold: str) -> None:
    """A card whose UUID is not reported for a while is the one at its index."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await host.scan(untold, "B", failing=["A"])
    states = await host.states()
    assert (states[0].usage.uuid, len(states)) == ("A", 2)
    assert await host.holders() == {"A": ALICE}
    await host.scan("B", "A")
    assert await host.holders() == {"A": ALICE}
    assert (await host.states())[1].reservation is not None


async def test_a_card_that_never_told_a_uuid_is_followed_by_none(host: CardHost) -> None:
    """The reservation of a card that never had a UUID stays at its index."""
    await host.scan("", "B")
    await host.reserve(ALICE, 0)
    await host.scan("A", "B")
    assert await host.holders() == {"A": ALICE}
    await host.scan("B", "A")
    assert await host.holders() == {"A": ALICE}


async def test_an_unidentified_card_is_not_taken_for_a_missing_one(host: CardHost) -> None:
    """A card without a UUID is not taken for a missing one at the same index."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await host.scan("B")
    await host.scan("B", "")
    states = await host.states()
    assert [states[index].usage.uuid for index in range(3)] == ["B", "", "A"]
    assert await host.holders() == {"A": ALICE}
