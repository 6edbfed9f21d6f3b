"""What is promised to bookings, at any moment of a forecast: the rule of service/lua/promises.lua, in Python.

It decides nothing: the scripts do. It tells when a request would be served, and what could be booked.
"""

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from canhazgpu.events.gpu import Vendor
from canhazgpu.events.reservations import Record, Window
from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance
from canhazgpu.service.storage.snapshot import GpuState, Snapshot, instances_by_card


class Card(msgspec.Struct, kw_only=True):
    """A GPU or a MIG instance, and from when on it is free with its instances (infinity: never).

    `whole`: it is not divided, and no instance. `out`: an administrator must do something before it can be
    allocated. `together` are the UUIDs of what is held with it: of a card its instances, of an instance its
    card.
    """

    index: int
    uuid: str
    vendor: Vendor
    free_ms: float
    whole: bool = True
    out: bool = False
    together: tuple[str, ...] = ()
    profile: str | None = None
    maintained: bool = False


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """How many GPUs are left when a window without names begins; negative: so many are missing."""

    at_ms: float
    end_ms: int
    vendor: Vendor | None
    left: int


def end_of(record: Record) -> int | None:
    """Return the latest end of a reservation in ms, or None if it has none."""
    if record.timeout_ms is not None:
        return record.started_ms + record.timeout_ms
    return record.expires_ms


def cards_of(snapshot: Snapshot) -> list[Card]:
    """Return all GPUs and MIG instances."""
    gpus, instances = {gpu.usage.index: gpu for gpu in snapshot.gpus}, instances_by_card(snapshot)
    reasons: dict[str, set[str | None]] = {}  # Of maintenance that has begun.
    for one in snapshot.windows:
        for uuid in one.cards or () if one.begun else ():
            reasons.setdefault(uuid, set()).add(one.drain)
    found = []

    def is_maintained(gpu: GpuState) -> bool:
        card = card_of(gpu.usage.index)
        whole = gpus.get(card) if card is not None else None
        names = [_uuid(gpu), *([_uuid(whole)] if whole else ())]
        return bool(gpu.drained) and any(gpu.drained in reasons.get(name, ()) for name in names)

    def is_lost(gpu: GpuState) -> bool:
        """Return whether an administrator must do something; maintenance ends without that."""
        drained = bool(gpu.drained) and not is_maintained(gpu)
        return gpu.unmanaged or drained or gpu.usage.state == "error"

    for index, gpu in gpus.items():
        parts, card = [gpus[one] for one in instances.get(index, ())], card_of(index)
        others = parts if card not in gpus else [gpus[card]]
        found.append(
            Card(
                index=index,
                uuid=_uuid(gpu),
                vendor=gpu.usage.vendor,
                free_ms=max(_free_ms(one, snapshot.now_ms) for one in (gpu, *parts)),
                whole=not parts and not is_instance(index),
                out=any(map(is_lost, (gpu, *parts))),
                together=tuple(map(_uuid, others)),
                profile=gpu.usage.profile,
                maintained=is_maintained(gpu),
            )
        )
    return found


def _uuid(gpu: GpuState) -> str:
    return gpu.usage.uuid or f"#{gpu.usage.index}"


def _free_ms(gpu: GpuState, now_ms: int) -> float:
    """Return from when on a GPU is free; what should be free, but is not, is in a moment."""
    if gpu.unreadable:
        return math.inf
    if gpu.reservation:
        return max(end_of(gpu.reservation) or math.inf, now_ms + 1)
    if gpu.usage.state != "ok":
        return now_ms + 1
    return math.inf if gpu.usage.in_use else 0


def is_possible(window: Window, cards: Sequence[Card]) -> bool:
    """Return whether a window could have its GPUs if nobody used them."""
    usable = [card for card in cards if not card.out]
    if window.cards:
        return set(window.cards) <= {card.uuid for card in usable}
    return sum(card.whole and could_meet(card.vendor, window.vendor) for card in usable) >= window.count


def could_meet(one: Vendor | None, other: Vendor | None) -> bool:
    """Return whether GPUs of one vendor could be of the other; None is any vendor."""
    return one is None or other is None or one == other


def _with_maintained(window: Window, maintained: AbstractSet[str]) -> Window:
    """Return a window; of maintenance that has begun, with the GPUs that are still drained."""
    if not window.begun:
        return window
    kept = tuple(uuid for uuid in window.cards or () if uuid in maintained)
    return msgspec.structs.replace(window, cards=kept) if kept else msgspec.structs.replace(window, end_ms=0)


class Promises:
    """The windows that keep GPUs from others at one moment."""

    def __init__(self, windows: Iterable[Window], cards: Sequence[Card], moment: float) -> None:
        """Weigh windows of these cards. Those that are due and wait for an administrator do not count."""
        self._moment, self._cards = moment, cards
        self._counted = [card for card in cards if card.whole and not card.out]
        maintained = {card.uuid for card in cards if card.maintained}
        self.windows = sorted(
            (
                one
                for one in (_with_maintained(window, maintained) for window in windows)
                if one.end_ms > moment
                and (one.begin_ms > moment or one.drain is not None or is_possible(one, cards))
            ),
            key=lambda one: one.begin_ms,
        )
        self._named: dict[str, list[Window]] = {}
        together = {card.uuid: card.together for card in cards if card.together}
        for one in self.windows:
            for name in one.cards or ():
                for uuid in (name, *together.get(name, ())):
                    self._named.setdefault(uuid, []).append(one)
        self.margins = self._margins()

    def room(self, vendor: Vendor | None, end_ms: float) -> float:
        """Return how many GPUs of a vendor can be taken until then, in addition to what is taken."""
        most = math.inf
        for margin in self.margins:
            if margin.at_ms >= end_ms:
                break
            if could_meet(margin.vendor, vendor):
                most = min(most, margin.left)
        return max(0, most)

    def named_from(self, uuid: str, booking: str = "") -> float:
        """Return when the first window begins that names a GPU, other than that of a booking."""
        return next((one.begin_ms for one in self._named.get(uuid, ()) if one.id != booking), math.inf)

    def fits(self, window: Window) -> bool:
        """Return whether a window could be promised besides these."""
        at_ms, vendor, whole = max(window.begin_ms, self._moment), window.vendor, not window.cards
        if window.end_ms <= self._moment or not is_possible(window, self._cards):
            return False
        for card in self._cards:
            if card.uuid in (window.cards or ()):
                taken = self._named.get(card.uuid, ())
                if card.free_ms > at_ms or any(
                    one.begin_ms < window.end_ms and one.end_ms > at_ms for one in taken
                ):
                    return False
                if card.whole:
                    vendor, whole = card.vendor, True
        if not whole:
            return True
        tried = Promises([*self.windows, window], self._cards, self._moment)
        return not any(
            margin.left < 0
            and margin.at_ms < window.end_ms
            and could_meet(margin.vendor, vendor)
            and (margin.end_ms > at_ms if window.cards else margin.at_ms >= at_ms)
            for margin in tried.margins
        )

    def _margins(self) -> list[Margin]:
        counted = [one for one in self.windows if not one.cards]
        ending = sorted(counted, key=lambda one: one.end_ms)
        place = dict.fromkeys(self._named, 0)
        needs: dict[str, int] = {"any": 0, "nvidia": 0, "amd": 0}
        found, begun, ended = [], 0, 0
        for window in counted:
            at_ms = max(window.begin_ms, self._moment)
            while begun < len(counted) and max(counted[begun].begin_ms, self._moment) <= at_ms:
                needs[counted[begun].vendor or "any"] += counted[begun].count
                begun += 1
            while ending[ended].end_ms <= at_ms:
                needs[ending[ended].vendor or "any"] -= ending[ended].count
                ended += 1
            left = sum(self._is_left(card, window, at_ms, place) for card in self._counted)
            left -= needs["any"] + needs[window.vendor] if window.vendor else sum(needs.values())
            found.append(Margin(at_ms=at_ms, end_ms=window.end_ms, vendor=window.vendor, left=left))
        return found

    def _is_left(self, card: Card, window: Window, at_ms: float, place: dict[str, int]) -> bool:
        """Return whether a card is free for the whole of a window; `place` moves to the names that follow."""
        if not could_meet(card.vendor, window.vendor) or card.free_ms > at_ms:
            return False
        named = self._named.get(card.uuid)
        if named is None:
            return True
        while place[card.uuid] < len(named) and named[place[card.uuid]].end_ms <= at_ms:
            place[card.uuid] += 1
        return place[card.uuid] == len(named) or named[place[card.uuid]].begin_ms >= window.end_ms
