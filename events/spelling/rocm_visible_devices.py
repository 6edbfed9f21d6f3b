"""Reads the variables that hide AMD GPUs by the rules of ROCm: what a HIP program sees, and in which order.

The runtime ROCr applies ROCR_VISIBLE_DEVICES. HIP then applies HIP_VISIBLE_DEVICES or, if that is empty or
not set, CUDA_VISIBLE_DEVICES, to what is left. The rules are those of amd_filter_device.cpp and
rocdevice.cpp.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from canhazgpu.events.spelling.cuda_visible_devices import Card

ROCR, HIP, CUDA = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"
SHORTEST, LONGEST = 5, 20  # Characters of a UUID, or of the beginning of one: GPU- and 16 digits.
LONGEST_NUMBER = 9


def visible_amd(environment: Mapping[str, str], cards: Sequence[Card]) -> tuple[tuple[int, ...], str]:
    """Return the indices of the visible GPUs, and why these, as a clause. `cards` are AMD GPUs."""
    seen = sorted(cards, key=lambda card: card.ordinal)
    why = f"{ROCR} is not set, so every AMD GPU is visible"
    if ROCR in environment:
        seen = _left_by_rocr(environment[ROCR], seen)
        why = _because(ROCR, environment[ROCR], seen)
    variable = HIP if environment.get(HIP) else CUDA
    if seen and environment.get(variable):
        seen = _left_by_hip(environment[variable], seen)
        narrowed = _because(variable, environment[variable], seen)
        why = f"{why}; {narrowed}" if ROCR in environment else narrowed
    return tuple(card.index for card in seen), why


def _because(variable: str, value: str, seen: Sequence[Card]) -> str:
    no_gpu = "does not begin with an AMD GPU of this host" if value else "is empty"
    return f"{variable} {'names them' if seen else no_gpu}"


def _left_by_rocr(value: str, cards: Sequence[Card]) -> list[Card]:
    """Return the GPUs up to the first entry that is none, or was there before."""
    found: list[Card] = []
    for entry in value.upper().split(",")[: len(cards)]:
        card = _named(entry.strip(), cards)
        if card is None or card in found:
            break
        found.append(card)
    return found


def _named(entry: str, cards: Sequence[Card]) -> Card | None:
    if entry.startswith("G"):
        fits = SHORTEST <= len(entry) <= LONGEST
        meant = [card for card in cards if fits and card.uuid.upper().startswith(entry)]
        return meant[0] if len(meant) == 1 else None
    if not entry.isalnum():
        return None
    try:
        number = int(entry, 16 if entry.startswith("0X") else 8 if entry.startswith("0") else 10)
    except ValueError:
        return None
    return cards[number] if 0 <= number < len(cards) else None


def _left_by_hip(value: str, cards: Sequence[Card]) -> list[Card]:
    """Return the GPUs up to the first entry that is none; one that is repeated counts once."""
    found: list[Card] = []
    for entry in value.split(","):
        by_uuid = [card for card in cards if card.uuid == entry]
        number = int(entry) if entry.isascii() and entry.isdigit() and len(entry) <= LONGEST_NUMBER else -1
        if not by_uuid and (str(number) != entry or not 0 <= number < len(cards)):
            break
        card = by_uuid[0] if by_uuid else cards[number]
        if card not in found:
            found.append(card)
    return found
