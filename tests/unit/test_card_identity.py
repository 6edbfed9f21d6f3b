"""Which card is at which index, tested with every small renumbering."""

from itertools import permutations, product

import pytest

from canhazgpu.service.gpus.card_identity import (
    ZERO,
    Card,
    current_indices,
    identifying_uuids,
    identity_warnings,
    is_known_uuid,
)

UUIDS = ("A", "B", "C", "")


def known(*uuids: str, missing: dict[int, int] | None = None) -> dict[int, Card]:
    """Return cards by index; `missing` has the former indices of those that are not listed."""
    was = missing or {}
    return {
        index: Card(uuid=uuid, missing_ms=1 if index in was else None, was=was.get(index))
        for index, uuid in enumerate(uuids)
    }


def places(before: dict[int, Card], *seen: str) -> dict[int, tuple[int, bool]]:
    """Return the expected index of each card, and whether it is missing."""
    return {move.was: (move.index, move.missing) for move in current_indices(before, dict(enumerate(seen)))}


def test_every_renumbering_of_few_cards_is_right() -> None:
    """A card with its own UUID is at its index.

    No two cards share an index, and missing cards have unlisted ones.
    """
    lists = [row for length in range(4) for row in product(UUIDS, repeat=length)]
    for old, new in product(lists, lists):
        before, seen = known(*old), dict(enumerate(new))
        moves = current_indices(before, seen)
        assert [move.was for move in moves] == sorted(before)
        assert len({move.index for move in moves}) == len(moves)
        sure_before = identifying_uuids({index: card.uuid for index, card in before.items()})
        sure_now = identifying_uuids(seen)
        at = {uuid: index for index, uuid in sure_now.items()}
        for move in moves:
            assert move.missing == (move.index not in seen)
            uuid = sure_before.get(move.was)
            if uuid in at:
                assert (move.index, move.missing) == (at[uuid], False)
            elif not move.missing:
                assert move.index == move.was
                assert uuid is None or move.was not in sure_now


def test_every_permutation_of_five_is_followed() -> None:
    """Every permutation of five cards is followed."""
    for order in permutations("ABCDE"):
        expected = {index: (order.index(uuid), False) for index, uuid in enumerate("ABCDE")}
        assert places(known(*"ABCDE"), *order) == expected


def test_a_missing_card_stays_unless_its_index_is_taken() -> None:
    """A missing card keeps its index until another card has it.

    Then it gets the first index above all others.
    """
    assert places(known("A", "B"), "A") == {0: (0, False), 1: (1, True)}
    assert places(known("A", "B", "C"), "B", "C") == {0: (2, True), 1: (0, False), 2: (1, False)}
    assert places(known("B", "C", "A", missing={2: 0}), "B", "C") == {
        0: (0, False),
        1: (1, False),
        2: (2, True),
    }
    assert places(known("B", "A", missing={1: 0}), "B", "D") == {0: (0, False), 1: (2, True)}


def test_a_replaced_card_is_another() -> None:
    """If a card is replaced, the state of the old one moves away from the index of the new one."""
    assert places(known("A"), "B") == {0: (1, True)}


def test_the_unidentified_stay_where_they_are() -> None:
    """Cards with the same UUID or without one stay at their index and take no other card's place."""
    assert places(known("X", "X", "B"), "X", "X", "C", "B") == {0: (0, False), 1: (1, False), 2: (3, False)}
    assert places(known("A", "B"), "unknown-0", "B") == {0: (0, False), 1: (1, False)}
    assert places(known("B", "A", missing={1: 0}), "B", "unknown-1") == {0: (0, False), 1: (2, True)}


def test_a_uuid_that_was_listed_twice_is_the_listed_cards() -> None:
    """A missing card with the same UUID takes it from no listed card; the card that was seen last has it."""
    phantom = {0: Card(uuid="B"), 1: Card(uuid="A"), 9: Card(uuid="A", missing_ms=1, was=9)}
    assert {move.was: (move.index, move.missing) for move in current_indices(phantom, {0: "A", 1: "B"})} == {
        0: (1, False),
        1: (0, False),
        9: (9, True),
    }
    two = {3: Card(uuid="A", missing_ms=2, was=0), 9: Card(uuid="A", missing_ms=1, was=9)}
    assert [move.index for move in current_indices(two, {0: "A"})] == [0, 9]
    alike = {3: Card(uuid="A", missing_ms=1, was=3), 9: Card(uuid="A", missing_ms=1, was=9)}
    assert all(move.missing for move in current_indices(alike, {0: "A"}))


def test_another_card_does_not_take_over_what_a_second_one_with_a_uuid_had() -> None:
    """A new card at an index where the UUID of A was listed twice does not take over the state of A."""
    phantom = {0: Card(uuid="A"), 1: Card(uuid="A", missing_ms=1, was=1)}
    assert [(move.index, move.missing) for move in current_indices(phantom, {0: "A", 1: "C"})] == [
        (0, False),
        (2, True),
    ]


@pytest.mark.parametrize("uuid", ["", "unknown-3", ZERO])
def test_what_is_no_uuid(uuid: str) -> None:
    """An empty UUID, our placeholder and a UUID of zeros identify no card."""
    assert not is_known_uuid(uuid)
    assert is_known_uuid("GPU-0")


def test_what_is_doubtful_is_said() -> None:
    """A warning names the GPUs that cannot be told apart, and says why."""
    assert identity_warnings({0: "X", 1: "A", 2: "X", 3: "", 4: "unknown-4"}) == [
        "GPU 0 and GPU 2 have the same UUID, X",
        "GPU 3 and GPU 4 have no UUID",
    ]
    assert identity_warnings({0: "A", 1: "B"}) == []


def test_a_missing_card_gets_the_index_of_a_card_and_an_instance_that_of_an_instance() -> None:
    """A displaced card comes after all cards, and a displaced MIG instance after those of its card."""
    known = {0: Card(uuid="A"), 1: Card(uuid="B"), 1024: Card(uuid="MIG-1"), 1025: Card(uuid="MIG-2")}
    seen = {0: "B", 1024: "MIG-2", 1025: "MIG-3", 3072: "MIG-9"}
    moves = {known[move.was].uuid: (move.index, move.missing) for move in current_indices(known, seen)}
    assert moves == {"A": (1, True), "B": (0, False), "MIG-1": (2048, True), "MIG-2": (1024, False)}


def test_a_missing_instance_stays_with_its_card() -> None:
    """Whether its card is displaced, moved, or back at its index, and whatever else is there now."""
    known = {0: Card(uuid="A"), 1: Card(uuid="B"), 1024: Card(uuid="MIG-1"), 1025: Card(uuid="MIG-2")}
    lost = {move.was: move.index for move in current_indices(known, {0: "B"})}
    assert lost == {0: 1, 1: 0, 1024: 2048, 1025: 2049}
    swapped = current_indices(known, {0: "B", 1: "A", 1024: "MIG-5", 2048: "MIG-1"})
    assert {move.was: move.index for move in swapped} == {0: 1, 1: 0, 1024: 2048, 1025: 2049}
    displaced = {
        0: Card(uuid="B"),
        1: Card(uuid="A", missing_ms=1, was=0),
        2048: Card(uuid="MIG-1", missing_ms=1, was=1024),
    }
    back = {move.was: move.index for move in current_indices(displaced, {0: "A", 1: "B"})}
    assert back == {0: 1, 1: 0, 2048: 1024}
    taken = {move.was: move.index for move in current_indices(displaced, {0: "A", 1: "B", 1024: "MIG-7"})}
    assert taken[2048] == 1025
