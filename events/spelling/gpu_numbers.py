"""Numbers of GPUs as people write them: `3`, or `0:1` for the MIG instance 1 of GPU 0.

Programs count both with one number, the index: indices of instances are above those of all cards.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

MOST_CARDS = 1024  # Also the most instances of one card.
MOST_INDEX = MOST_CARDS * (MOST_CARDS + 1)
LONGEST = 4  # Digits.
LONGEST_INDEX = 7


def instance_index(card: int, number: int) -> int:
    """Return the index of an instance: `number` as the driver counts the instances of the GPU `card`."""
    return MOST_CARDS * (card + 1) + number


def is_instance(index: int) -> bool:
    """Return whether an index is that of a MIG instance."""
    return index >= MOST_CARDS


def card_of(index: int) -> int | None:
    """Return the index of the GPU that an instance is a part of; None for a whole GPU."""
    return index // MOST_CARDS - 1 if index >= MOST_CARDS else None


def place_of(index: int) -> tuple[int, int]:
    """Return the place of a GPU in lists: instances come after their GPU, in front of the next one."""
    return (index, -1) if index < MOST_CARDS else (index // MOST_CARDS - 1, index % MOST_CARDS)


def spell_gpu(index: int) -> str:
    """Return `3`, or `0:1` for an instance."""
    return str(index) if index < MOST_CARDS else f"{index // MOST_CARDS - 1}:{index % MOST_CARDS}"


def read_instance(text: str) -> int | None:
    """Return the index of the instance that `0:1` names; None if it names none."""
    card, colon, number = text.partition(":")
    if not colon or not (_is_number(card) and _is_number(number)):
        return None
    return instance_index(int(card), int(number))


def read_index(text: str) -> int | None:
    """Return the index that a program writes as a number, or a person as `3` or `0:1`; None for others."""
    if text.isascii() and text.isdecimal() and len(text) <= LONGEST_INDEX:
        return int(text)
    return read_instance(text)


def is_part_of(index: object, whole: int) -> bool:
    """Return whether an index is that of a GPU, or of an instance of it."""
    return index == whole or (isinstance(index, int) and card_of(index) == whole)


def without_parts(indices: tuple[int, ...]) -> tuple[int, ...]:
    """Return the indices without instances whose GPU is one of them."""
    return tuple(index for index in indices if card_of(index) not in indices)


def usable_parts(indices: Collection[int]) -> list[int]:
    """Return GPUs as programs can use them: a GPU that is divided is used by its instances."""
    divided = {card_of(index) for index in indices}
    return [index for index in indices if index not in divided]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= LONGEST and int(word) < MOST_CARDS
