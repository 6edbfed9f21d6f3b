"""Reads CUDA_VISIBLE_DEVICES by the rules of CUDA: which GPUs a program sees, and in which order.

The rules are those of the CUDA programming guide ("Device Enumeration and Properties"). Where it is silent
(a GPU that is named twice, text after a number), they are what PyTorch found the driver to do. What neither
says, such as blanks and upper case in a UUID, is read so that more GPUs count as visible.
"""

from __future__ import annotations

from canhazgpu.events.spelling.gpu_numbers import spell_gpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VARIABLE, ORDER, BY_BUS = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
DIGITS = frozenset("0123456789")
BLANKS = " \t\n\v\f\r"
LONGEST_NUMBER = 9
NUMBER = "number"


class Card:
    """A GPU: its index by PCI bus, its UUID, its model, and the indices of its MIG instances by name.

    `ordinal` is the number by which the runtime of its vendor counts it.
    """

    def __init__(
        self,
        index: int,
        uuid: str,
        model: str = "",
        instances: Mapping[str, int] | None = None,
        ordinal: int | None = None,
    ) -> None:
        """Store the facts."""
        self.index, self.uuid, self.model, self.instances = index, uuid, model, instances or {}
        self.ordinal = index if ordinal is None else ordinal


class Visible:
    """The GPUs that a program sees, in CUDA's order, and `why` as a clause.

    Of a GPU that is divided into MIG instances, all of these count as visible.
    If they are not `certain`, the numbers may mean any GPU, and `gpus` are all that it may see.
    """

    def __init__(self, gpus: Sequence[int], why: str, *, certain: bool = True) -> None:
        """Store the facts."""
        self.gpus, self.why, self.certain = tuple(gpus), why, certain


def visible(environment: Mapping[str, str], cards: Sequence[Card]) -> Visible:
    """Return what a program with this environment sees of a host that has these GPUs."""
    parts = {card.index: sorted(set(card.instances.values())) or [card.index] for card in cards}
    everything = [index for card in cards for index in parts[card.index]]
    if not cards:
        return Visible((), "this host has no GPU")
    if VARIABLE not in environment:
        return Visible(everything, f"{VARIABLE} is not set, so every GPU is visible")
    found: dict[tuple[str, str], int] = {}
    for meaning, index in _meanings(environment[VARIABLE], cards):
        if meaning in found:
            return Visible((), f"{VARIABLE} names GPU {spell_gpu(index)} twice, so CUDA shows none")
        found[meaning] = index
    numbered = any(kind == NUMBER for kind, _ in found)
    gpus = list(dict.fromkeys(one for index in found.values() for one in parts.get(index, [index])))
    if numbered and len(gpus) < len(everything) and not _is_order_known(environment, cards):
        why = f"{ORDER} is not {BY_BUS}, so CUDA numbers GPUs of different models by their speed"
        return Visible(everything, why, certain=False)
    empty = not environment[VARIABLE].strip(BLANKS)
    does = "names them" if gpus else "is empty" if empty else "does not begin with a GPU of this host"
    return Visible(gpus, f"{VARIABLE} {does}")


def _is_order_known(environment: Mapping[str, str], cards: Sequence[Card]) -> bool:
    """Return whether CUDA numbers the GPUs by PCI bus. By default it puts the fastest first."""
    return environment.get(ORDER) == BY_BUS or len({card.model for card in cards}) == 1


def _meanings(listed: str, cards: Sequence[Card]) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the meanings of the entries up to the first that is no GPU: CUDA ignores all that follows."""
    for entry in listed.split(","):
        named = _named(entry.strip(BLANKS), cards)
        if named is None:
            return
        yield named


def _named(entry: str, cards: Sequence[Card]) -> tuple[tuple[str, str], int] | None:
    """Return what an entry means (its kind and the full name) and the index of its GPU; None if nothing."""
    start = entry.casefold()
    if start.startswith("gpu-"):
        return _only("uuid", start, [(card.uuid, card.index) for card in cards])
    if start.startswith("mig-"):
        return _only("mig", start, [one for card in cards for one in card.instances.items()])
    number = _leading_number(entry)
    known = any(card.index == number for card in cards)
    return ((NUMBER, str(number)), number) if number is not None and known else None


def _only(kind: str, start: str, names: Sequence[tuple[str, int]]) -> tuple[tuple[str, str], int] | None:
    """Return the one name that begins with `start`, or is `start`."""
    lower = [(name.casefold(), index) for name, index in names]
    exact = [one for one in lower if one[0] == start]
    found = exact or [one for one in lower if one[0].startswith(start)]
    return ((kind, found[0][0]), found[0][1]) if len(found) == 1 else None


def _leading_number(text: str) -> int | None:
    """Return the number at the beginning of a text, as strtol(3) reads it; None if negative or too large."""
    digits = text[1:] if text[:1] in {"+", "-"} else text
    end = next((place for place, sign in enumerate(digits) if sign not in DIGITS), len(digits))
    number = digits[:end].lstrip("0")
    if not end or len(number) > LONGEST_NUMBER or (text[0] == "-" and number):
        return None
    return int(number or "0")
