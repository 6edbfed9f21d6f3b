"""`renumber` on a real Redis: all state of a card moves to its new index."""

from typing import Any

import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.silences.lifecycle import Draft, Silences
from canhazgpu.service.storage.snapshot import snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture
def host(store: Store) -> CardHost:
    """A host without cards."""
    return CardHost(store)


async def test_an_unchanged_host_asks_redis_nothing(host: CardHost) -> None:
    """If the cards are unchanged, a scan is one round trip."""
    await host.scan("A", "B")
    calls = await _calls(host)
    for _ in range(5):
        await host.scan("A", "B")
    assert await _calls(host) - calls == 5
    await host.scan("B", "A")
    assert await _calls(host) - calls == 7


async def test_what_is_kept_of_two_cards_changes_places_with_them(host: CardHost) -> None:
    """If two cards change places, holder, drain, usage and last release follow them."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await host.drain(1)
    host.uses = {"A": (ALICE,)}
    await host.scan("A", "B")
    before = {"A": await host.gpu_fields(0), "B": await host.gpu_fields(1)}
    await host.scan("B", "A")
    for name, index in (("A", 1), ("B", 0)):
        seen = before[name]["usage"].replace(f'{{"index":{1 - index}', f'{{"index":{index}')
        assert await host.gpu_fields(index) == before[name] | {"usage": seen}
    assert await host.holders() == {"A": ALICE}
    assert (await host.by_uuid())["B"].drained == "noisy fan"
    assert await host.violating_uids() == {}


async def test_a_scan_is_not_stored_where_redis_has_another_card(host: CardHost) -> None:
    """If Redis was restored with former indices, a scan changes nothing until the state has moved."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await host.scan("B", "A")
    await CardHost(host.store).scan("A", "B")
    before = await host.gpu_fields(0), await host.gpu_fields(1)
    with pytest.raises(StoreDown):
        await host.scan("B", "A")
    assert (await host.gpu_fields(0), await host.gpu_fields(1)) == before
    host.cards.forget()
    await host.scan("B", "A")
    assert await host.holders() == {"A": ALICE}
    assert (await host.reserve(BOB, 1)).code == "refused"


async def test_a_rightful_holder_stays_one_when_a_card_falls_off_the_bus(host: CardHost) -> None:
    """If a card falls off the bus, the holders of the others keep their cards."""
    await host.scan("A", "B")
    reserved = await host.reserve(ALICE, 1)
    host.uses = {"B": (ALICE,)}
    for cards in (("A", "B"), ("B",), ("B",), ("B",)):
        await host.scan(*cards)
    states = await host.states()
    assert (states[0].usage.uuid, states[1].usage.uuid) == ("B", "A")
    assert states[0].reservation is not None
    assert (states[0].reservation.id, states[0].reservation.gpus) == (reserved.id, (0,))
    assert (states[1].usage.state, states[1].usage.reason) == ("error", "not found by the driver (was GPU 0)")
    assert states[1].reservation is None
    assert await host.violating_uids() == {}
    assert (await host.reserve(BOB, count=1)).code == "refused"


async def test_reservations_tell_which_cards_they_are_of(host: CardHost) -> None:
    """Events of a reservation have the UUIDs in the order of the current indices."""
    await host.scan("A", "B", "C")
    await host.reserve(ALICE, 0, 2)
    await host.scan("C", "B", "A")
    await host.scan("A", "C", "B")
    await _release(host, ALICE)
    events = await host.published("reservation.created", "reservation.released")
    seen = [(event.data["gpus"], event.data["uuids"]) for event in events]
    assert seen == [([0, 2], ["A", "C"]), ([0, 1], ["A", "C"])]


async def test_three_cards_rotate(host: CardHost) -> None:
    """Three cards that rotate keep their reservations."""
    order = ["A", "B", "C", "D"]
    await host.scan(*order)
    await host.reserve(ALICE, 0, 2)
    await host.reserve(BOB, 1)
    await host.drain(3)
    for _ in range(4):
        order = order[1:] + order[:1]
        await host.scan(*order)
        assert await host.holders() == {"A": ALICE, "C": ALICE, "B": BOB}
        states = await host.by_uuid()
        assert [name for name in order if states[name].drained] == ["D"]
        for record in (await host.records()).values():
            assert list(record.gpus) == sorted(record.gpus)


async def test_an_open_violation_follows_the_card(host: CardHost) -> None:
    """An open violation or candidate follows its card, and is published with the new index."""
    host.uses = {"A": (BOB,)}
    await host.scan("A", "B")
    await host.scan("A", "B")
    (before,) = (await host.by_uuid())["A"].violations
    await host.scan("B", "A")
    (after,) = (await host.by_uuid())["A"].violations
    assert (before.gpu, after.gpu) == (0, 1)
    assert before.violation == after.violation
    (event,) = await host.published("violation.updated")
    assert (event.data["gpu"], event.data["gpu_uuid"], event.data["violation"]) == (1, "A", before.violation)
    assert not await host.published("violation.closed")
    host.uses = {}
    await host.scan("B", "A")
    (closed,) = await host.published("violation.closed")
    assert (closed.data["gpu"], closed.data["gpu_uuid"]) == (1, "A")


async def test_use_that_ends_in_the_moment_of_renumbering_is_not_told_of_again(host: CardHost) -> None:
    """If use ends at the same time, its only event is the end, at the new index."""
    host.uses = {"A": (BOB,)}
    await host.scan("A", "B")
    await host.scan("A", "B")
    host.uses = {}
    await host.scan("B", "A")
    (closed,) = await host.published("violation.closed", "violation.updated")
    assert (closed.data["reason"], closed.data["gpu"], closed.data["gpu_uuid"]) == ("stopped", 1, "A")


async def test_a_violation_on_a_missing_card_is_told_where_the_card_is_shown(host: CardHost) -> None:
    """A violation on a missing card is published with the index at which the card is shown."""
    host.uses = {"A": (BOB,)}
    await host.scan("A", "B")
    await host.scan("A", "B")
    await host.scan("B")
    await host.scan("B")
    (event,) = await host.published("violation.closed", "violation.updated")
    assert (event.type, event.data["gpu"], event.data["gpu_uuid"]) == ("canhazgpu.violation.updated", 1, "A")


async def test_a_candidate_follows_the_card(host: CardHost) -> None:
    """A candidate that was seen before the change is confirmed after it."""
    host.uses = {"A": (BOB,)}
    await host.scan("A", "B")
    await host.scan("B", "A")
    assert await host.violating_uids() == {"A": [BOB]}
    opened = await host.published("violation.opened")
    assert [event.data["gpu"] for event in opened] == [1]


async def test_a_request_that_names_gpus_follows_the_cards(host: CardHost) -> None:
    """A request that names GPUs follows the cards."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    waiting = await host.reserve(BOB, 0, wait=True)
    assert waiting.code == "queued"
    await host.scan("B", "A")
    assert [one.gpus for one in await host.allocator.waiting()] == [(1,)]
    await _release(host, ALICE)
    await host.scan("B", "A")
    assert await host.holders() == {"A": BOB}
    assert (await host.records())[waiting.id].gpus == (1,)


async def test_who_had_a_card_last_is_known_of_the_card(store: Store) -> None:
    """With mru-per-user, a user gets the card that they had, at its new index."""
    host = CardHost(store, policy="mru-per-user")
    await host.scan("A", "B", "C")
    await host.reserve(ALICE, 1)
    await _release(host, ALICE)
    await host.scan("A", "B", "C")
    await host.scan("B", "C", "A")
    reserved = await host.reserve(ALICE, count=1)
    assert reserved.reservation is not None
    assert reserved.reservation.gpus == (0,)


async def test_the_longest_released_card_is_first_under_any_index(host: CardHost) -> None:
    """The order of allocation follows the cards."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    await _release(host, ALICE)
    await host.scan("A", "B")
    await host.scan("B", "A")
    reserved = await host.reserve(BOB, count=1)
    assert reserved.reservation is not None
    assert reserved.reservation.gpus == (0,)
    assert await host.holders() == {"B": BOB}


async def test_a_silence_follows_the_card(host: CardHost) -> None:
    """A silence or acknowledgement follows its card."""
    host.uses = {"A": (BOB,)}
    await host.scan("A", "B")
    await host.scan("A", "B")
    silences = Silences(host.store)
    plain = Draft(by="root", by_uid=0, reason="test", gpu=0)
    await silences.silence(plain, "one", lasts=600, ack_max=600)
    await silences.silence(
        Draft(by=f"u{BOB}", by_uid=BOB, reason="mine", user=f"u{BOB}", ack=True), "two", lasts=60, ack_max=60
    )
    await host.scan("B", "A")
    found = (await snapshot(host.store)).silences
    assert [(one.gpu, one.gpus) for one in found if not one.ack] == [(1, ())]
    assert [(one.gpu, one.gpus) for one in found if one.ack] == [(None, (1,))]
    (violation,) = (await host.by_uuid())["A"].violations
    assert all(one.covers(violation) for one in found)


async def test_one_event_tells_of_all_that_changed_places(host: CardHost) -> None:
    """One event has the old and new index of every card that changed."""
    await host.scan("A", "B", "C")
    await host.scan("B", "A", "C")
    (event,) = await host.published("gpu.renumbered")
    assert event.subject == "gpu"
    rows = sorted((one["uuid"], one["was"], one["index"]) for one in event.data["gpus"])
    assert rows == [("A", 0, 1), ("B", 1, 0)]
    await host.scan("B", "A", "C")
    assert len(await host.published("gpu.renumbered")) == 1


async def test_a_service_that_begins_compares_with_what_redis_has(host: CardHost) -> None:
    """A starting service compares the cards with those in Redis."""
    await host.scan("A", "B")
    await host.reserve(ALICE, 0)
    host.restart()
    await host.scan("B", "A")
    assert await host.holders() == {"A": ALICE}
    assert len(await host.published("gpu.renumbered")) == 1


async def test_a_lost_answer_changes_nothing_twice(host: CardHost) -> None:
    """After a lost answer, the service compares again and changes nothing twice."""
    await host.scan("A", "B", "C")
    await host.reserve(ALICE, 0)
    old = host.cards
    host.restart()
    await host.scan("B", "C", "A")
    host.cards = old  # It knows the cards as they were, like one whose reply was lost.
    await host.scan("B", "C", "A")
    assert await host.holders() == {"A": ALICE}
    assert len(await host.published("gpu.renumbered")) == 1


async def test_a_record_that_cannot_be_read_keeps_its_card_only(host: CardHost) -> None:
    """An unreadable record stops no renumbering, and its card stays reserved."""
    await host.scan("A", "B")
    reserved = await host.reserve(ALICE, 0)
    await host.store.redis.hset(host.store.keys.reservations, reserved.id, "{garbled")
    await host.scan("B", "A")
    states = await host.by_uuid()
    assert (states["A"].unreadable, states["B"].unreadable) == (reserved.id, "")
    assert (await host.reserve(BOB, count=1)).code == "granted"
    assert await host.store.redis.hget(host.store.keys.gpu(1), "holder") == reserved.id.encode()


async def _release(host: CardHost, uid: int) -> None:
    await host.allocator.release(ReleaseOrder(uid=uid, by=f"u{uid}", reason="released"), f"release {uid}")


async def _calls(host: CardHost) -> int:
    info: Any = await host.store.redis.info("commandstats")
    return sum(one["calls"] for name, one in info.items() if name in ("cmdstat_evalsha", "cmdstat_eval"))
