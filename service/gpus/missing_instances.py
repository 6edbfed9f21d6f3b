"""Decides what becomes of MIG instances that the driver does not list, as a pure function of the scans."""

from collections.abc import Mapping, Sequence

from canhazgpu.events.gpu import GpuReading
from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance
from canhazgpu.service.gpus.card_identity import Card


class MissingInstances:
    """The MIG instances of one host that the last scan did not find.

    Invariant: an instance whose card is listed but cannot be read is not gone, however long that takes.
    """

    def __init__(self) -> None:
        """Start without knowledge."""
        self._read: frozenset[str] = frozenset()  # The cards that the last scan could read.
        self._early: frozenset[str] = frozenset()  # The instances that the first scan did not find.
        self._listed: frozenset[int] = frozenset()
        self._unreadable: dict[int, GpuReading] = {}  # Cards that do not say which instances they have.
        self.dissolved: frozenset[int] = frozenset()  # Two scans in a row read their card.

    def update(
        self, known: Mapping[int, Card], readings: Sequence[GpuReading], now_ms: int, *, is_first: bool
    ) -> None:
        """Note a scan. `now_ms`: Redis' clock at the last one; `is_first`: Redis' state was just read."""
        missing = {
            index: card for index, card in known.items() if card.missing_ms is not None and is_instance(index)
        }
        self._early = frozenset(one.uuid for one in missing.values() if is_first or one.uuid in self._early)
        self.dissolved, self._unreadable, self._listed = frozenset(), {}, frozenset()
        if not missing:
            return
        before, cards = self._read, [one for one in readings if not is_instance(one.index)]
        self._listed = frozenset(one.index for one in cards)
        self._unreadable = {one.index: one for one in cards if one.divided is None}
        self._read = frozenset(known[one.index].uuid for one in cards if one.divided is not None)
        read = {one.index for one in cards if known[one.index].uuid in self._read & before}
        self.dissolved = frozenset(
            index
            for index, card in missing.items()
            if card_of(index) in read and (card.missing_ms or 0) <= now_ms
        )

    def is_early(self, card: Card) -> bool:
        """Return whether an instance may not have been created yet, because the host has just started."""
        return card.uuid in self._early

    def stays(self, index: int) -> bool:
        """Return whether a GPU is an instance that stays however long it is missing."""
        return card_of(index) in self._listed and index not in self.dissolved

    def unreadable_card(self, index: int) -> GpuReading | None:
        """Return the reading of the card of an instance, if the card is listed but cannot be read."""
        card = card_of(index)
        return None if card is None else self._unreadable.get(card)
