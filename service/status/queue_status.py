"""The queue as shown to users: the requests, why they wait, and when they are likely to be granted."""

import math
from collections import Counter
from functools import cached_property
from typing import Any, NamedTuple

from canhazgpu.events.gpu import VENDORS
from canhazgpu.events.reservations import Waiting
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_numbers import card_of, without_parts
from canhazgpu.events.spelling.gpu_ranges import name_gpus
from canhazgpu.events.timestamps import local_time
from canhazgpu.service.api.allowance import spell_places
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.status.promised_windows import Card, Promises, cards_of, could_meet, end_of
from canhazgpu.service.status.queue_eta import queue_eta
from canhazgpu.service.storage.snapshot import GpuState, Snapshot, instances_by_card

FREE = "free"
DATE = "%Y-%m-%d"
OUT = ("drained", "error", "unknown")  # These are not allocated until somebody fixes or undrains them.
KINDS = (*OUT, "reserved", "in use without reservation", FREE)


def queue(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return a row for each request, in order; `position` starts at 1.

    `expected` is when it gets its GPUs if all reservations last as long as allowed. It is null if this
    depends on a run without a timeout, a broken GPU, or a GPU that is used without a reservation.
    """
    moments, reasons = queue_eta(snapshot), _Reasons(snapshot)
    return [
        {
            "id": request.id,
            "position": position,
            "user": request.user,
            "label": request.label,
            "note": request.note,
            "kind": request.kind,
            "count": request.need,
            "vendor": request.vendor,
            "profile": request.profile,
            "gpus": list(request.gpus) if request.gpus else None,
            "queued": rfc3339(request.queued_ms),
            "waiting_s": max(0, (snapshot.now_ms - request.queued_ms) // 1000),
            "expected": rfc3339(moments.get(request.id)),
            "reason": reasons.of(request),
        }
        for position, request in enumerate(snapshot.waiting, 1)
    ]


class _Reasons:
    """Why requests wait. What they have in common is computed once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._held: Counter[int] = Counter()
        for record in snapshot.reservations:
            self._held[record.uid] += len(without_parts(record.gpus))
        self._divided = instances_by_card(snapshot)
        self._needs: dict[tuple[str | None, str | None, tuple[int, ...] | None], _Wanted] = {}

    def of(self, request: Waiting) -> str:
        """Return why a request waits, as a sentence without a full stop.

        GPUs that are not available for allocation come first, because the request may wait for them forever.
        """
        held = self._held[request.uid]
        if request.limit is not None and held + request.need > request.limit:
            if request.fleet_limit is None:
                return f"you hold {held} of the {request.limit} GPUs you may have"
            places = spell_places(held, request.elsewhere or {})
            return f"you hold {places}, of the {request.fleet_limit} GPUs you may have in the fleet"
        if self._snapshot.stalled_reason:
            return (
                f"no GPU of this host can be read: {printable(self._snapshot.stalled_reason, LONGEST_WORDS)}"
            )
        kind = request.vendor, request.profile, request.gpus
        wanted = self._needs.get(kind)
        if wanted is None:
            wanted = self._needs[kind] = self._wanted(request)
        never = " and cannot have them until that changes" if request.need > wanted.in_reach else ""
        of = f" {VENDORS[request.vendor]} GPUs" if request.vendor else ""
        of = f" MIG instances {request.profile}" if request.profile else of
        booked = self._booked(request) if self._snapshot.windows else ""
        return f"needs {request.need} of {wanted.total}{of}{never}: {wanted.states}{booked}"

    def _booked(self, request: Waiting) -> str:
        """Return that a request would keep GPUs from a booking if it was served now, and since when."""
        lasts_ms = request.timeout_ms or request.duration_ms
        end_ms = self._snapshot.now_ms + lasts_ms if lasts_ms else math.inf
        named = [card for card in self._cards if card.index in (request.gpus or ())]
        begins = [self._promises.named_from(card.uuid) for card in named]
        vendors = {card.vendor for card in named if card.whole}
        counted = (
            bool(vendors) if named else request.profile is None
        )  # Only whole GPUs are promised as a number.
        vendor = vendors.pop() if len(vendors) == 1 else request.vendor
        begins += [
            margin.at_ms
            for margin in self._promises.margins
            if counted and margin.left < request.need and could_meet(margin.vendor, vendor)
        ]
        first_ms = min((begin for begin in begins if begin < end_ms), default=math.inf)
        if math.isinf(first_ms):
            return ""
        return f"; booked {_at(round(first_ms), self._snapshot.now_ms, 'from')}"

    @cached_property
    def _cards(self) -> list[Card]:
        return cards_of(self._snapshot)

    @cached_property
    def _promises(self) -> Promises:
        return Promises(self._snapshot.windows, self._cards, self._snapshot.now_ms)

    @cached_property
    def _by_gpu(self) -> list[tuple[GpuState, str, str]]:
        return [(gpu, *_why(gpu, self._snapshot.now_ms)) for gpu in self._snapshot.gpus if not gpu.unmanaged]

    def _wanted(self, request: Waiting) -> "_Wanted":
        found: dict[str, dict[str, list[int]]] = {}  # By kind and detail: GPUs in the same situation.
        for gpu, kind, detail in self._by_gpu:
            if self._wants(request, gpu):
                found.setdefault(kind, {}).setdefault(detail, []).append(gpu.usage.index)
        counts = {kind: sum(map(len, details.values())) for kind, details in found.items()}
        parts = [
            f"{counts[kind]} {kind}" + (f" ({_listed(found[kind])})" if kind != FREE else "")
            for kind in sorted(found, key=KINDS.index)
        ]
        total = sum(counts.values())
        out = sum(count for kind, count in counts.items() if kind in OUT)
        return _Wanted(total, total - out, "; ".join(parts))

    def _wants(self, request: Waiting, gpu: GpuState) -> bool:
        """Return whether a request takes this GPU; of a named one with MIG instances, it takes those."""
        index, named = gpu.usage.index, request.gpus
        if named is not None:
            return (index in named or card_of(index) in named) and index not in self._divided
        if request.profile is not None:
            return gpu.usage.profile == request.profile
        whole = card_of(index) is None and index not in self._divided
        return whole and (request.vendor is None or gpu.usage.vendor == request.vendor)


class _Wanted(NamedTuple):
    """The GPUs that a request would take: how many, how many of them are in reach, and their states."""

    total: int
    in_reach: int
    states: str


def _listed(details: dict[str, list[int]]) -> str:
    return ", ".join(f"{name_gpus(gpus)} {detail}".strip() for detail, gpus in details.items())


def _why(gpu: GpuState, now_ms: int) -> tuple[str, str]:
    if gpu.unreadable:
        return "unknown", "by a reservation that cannot be read"
    if gpu.drained:
        return "drained", f"({printable(gpu.drained, 40)})"
    if gpu.usage.state != "ok":
        return gpu.usage.state, f"({printable(gpu.usage.reason or gpu.usage.state, 40)})"
    if gpu.reservation:
        note = f" ({printable(gpu.reservation.note, 40)})" if gpu.reservation.note else ""
        return "reserved", f"by {gpu.reservation.user}{note}{_until(end_of(gpu.reservation), now_ms)}"
    if gpu.usage.in_use:
        return "in use without reservation", "by " + ", ".join(gpu.usage.users)
    return FREE, ""


def _until(end_ms: int | None, now_ms: int) -> str:
    """Return ` until 17:50 CET`, with the date if it is not today."""
    return "" if end_ms is None else f" {_at(end_ms, now_ms, 'until')}"


def _at(moment_ms: int, now_ms: int, word: str) -> str:
    end = rfc3339(moment_ms)
    same_day = local_time(end, DATE) == local_time(rfc3339(now_ms), DATE)
    return f"{word} {local_time(end, '%H:%M' if same_day else f'{DATE} %H:%M')}"
