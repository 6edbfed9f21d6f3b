"""Decides which card is at which index now, as a pure function of known and observed UUIDs.

A UUID identifies a card only if the driver reports it for exactly one card. The state of a card without such
a UUID stays at its index; nothing is guessed.
"""

import math
from collections import Counter
from collections.abc import Mapping

import msgspec

from canhazgpu.events.spelling.gpu_numbers import MOST_CARDS, card_of, instance_index, is_instance, spell_gpu

PLACEHOLDER = "unknown-"  # The prefix of a placeholder UUID (service/providers/nvml.py).
ZERO = "GPU-00000000-0000-0000-0000-000000000000"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A card in Redis. `missing_ms`: the time since when the driver does not list it.

    `was`: the last index of a missing card.
    """

    uuid: str
    name: str = ""
    missing_ms: int | None = None
    was: int | None = None
    profile: str | None = None  # Of a MIG instance.


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A move of a card's state from one index to another. `missing`: the driver does not list the card."""

    was: int
    index: int
    missing: bool


def identifying_uuids(uuids: Mapping[int, str]) -> dict[int, str]:
    """Return the UUIDs by index that identify a card: reported by the driver, and unique."""
    count = Counter(uuids.values())
    return {index: uuid for index, uuid in uuids.items() if is_known_uuid(uuid) and count[uuid] == 1}


def known_uuids(known: Mapping[int, Card]) -> dict[int, str]:
    """Return the UUIDs of known cards by index, each of the one card that it identifies.

    A UUID that the driver reports for one card and reported for another before identifies the last one.
    """
    latest: dict[str, float] = {}
    for card in known.values():
        latest[card.uuid] = max(latest.get(card.uuid, 0), _seen_ms(card))
    last = {index: card.uuid for index, card in known.items() if _seen_ms(card) == latest[card.uuid]}
    return identifying_uuids(last)


def is_known_uuid(uuid: str) -> bool:
    """Return whether a UUID is real: not empty, not a placeholder, and not all zeros."""
    return uuid not in ("", ZERO) and not uuid.startswith(PLACEHOLDER)


def current_indices(known: Mapping[int, Card], seen: Mapping[int, str]) -> list[Move]:
    """Return the index of each known card, given the UUIDs that the driver lists by index.

    Indices are unique. A missing card keeps its index unless another card has it now; then it gets the first
    index above all others. A missing MIG instance goes where its card goes, and keeps its number there unless
    another instance has it now; then it gets the first one above those of its card.
    """
    places = _places(known, seen)
    taken = {*seen, *places.values()}
    missing = sorted(known.keys() - places.keys())
    moves = [Move(was=was, index=index, missing=False) for was, index in places.items()]
    for some in (
        [one for one in missing if not is_instance(one)],
        [one for one in missing if is_instance(one)],
    ):
        wanted = {was: _beside(places, was) for was in some}
        staying = {was: index for was, index in wanted.items() if index not in taken}
        taken |= set(staying.values())
        for was in some:
            index = staying.get(was)
            if index is None:
                card = card_of(wanted[was])
                index = max((one for one in seen if card_of(one) == card), default=_first(card) - 1) + 1
                while index in taken:
                    index += 1
                taken.add(index)
            places[was] = index
            moves.append(Move(was=was, index=index, missing=True))
    return sorted(moves, key=lambda move: move.was)


def identity_warnings(seen: Mapping[int, str]) -> list[str]:
    """Return sentences about GPUs whose UUIDs do not identify them; `seen`: UUIDs by index."""
    indices: dict[str, list[str]] = {}
    for index in sorted(seen.keys() - identifying_uuids(seen).keys()):
        uuid = seen[index] if is_known_uuid(seen[index]) else ""
        indices.setdefault(uuid, []).append(f"GPU {spell_gpu(index)}")
    return [
        f"{' and '.join(gpus)} {'have' if len(gpus) > 1 else 'has'} "
        + (f"the same UUID, {uuid}" if uuid else "no UUID")
        for uuid, gpus in indices.items()
    ]


def _places(known: Mapping[int, Card], seen: Mapping[int, str]) -> dict[int, int]:
    """Return the index of each known card that is present."""
    cards = known_uuids(known)
    present = identifying_uuids(seen)
    at = {uuid: index for index, uuid in cards.items()}
    places = {at[uuid]: index for index, uuid in present.items() if uuid in at}
    settled = set(places.values())
    for index in seen.keys() - settled:
        card = known.get(index)
        if card is None or index in places or card.was not in (None, index):
            continue
        # Without a UUID on either side, assume that it is the same card.
        if index not in present or (index not in cards and card.uuid not in at):
            places[index] = index
    return places


def _beside(places: Mapping[int, int], was: int) -> int:
    """Return the index that a missing card or instance had, the latter on its card as it is placed now."""
    card = card_of(was)
    return was if card is None else instance_index(places.get(card, card), was % MOST_CARDS)


def _first(card: int | None) -> int:
    return 0 if card is None else instance_index(card, 0)


def _seen_ms(card: Card) -> float:
    return math.inf if card.missing_ms is None else card.missing_ms
