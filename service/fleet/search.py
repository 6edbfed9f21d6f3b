"""Finds the hosts on which a number of GPUs is free now, or first."""

from collections.abc import Iterable
from typing import Any

import msgspec

from canhazgpu.events.reservations import MANUAL, Waiting
from canhazgpu.events.spelling.gpu_numbers import is_instance
from canhazgpu.service.fleet.mirror_reader import TROUBLE, HostCopy
from canhazgpu.service.fleet.views import gpu_rows
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.status.queue_eta import queue_eta
from canhazgpu.service.storage.snapshot import GpuState, Snapshot, instances_by_card

ASKED = "asked"  # The id of the request that is asked about.
NEVER_MS = 10**15


class Wanted(msgspec.Struct, frozen=True):
    """So many GPUs whose model contains `model`: not divided ones or, with `profile`, such MIG instances."""

    count: int
    model: str = ""
    profile: str | None = None


def found(copies: Iterable[HostCopy], wanted: Wanted) -> list[dict[str, Any]]:
    """Return the hosts that have what is wanted, the first to start first."""
    rows = [row for copy in copies if (row := _readable_row(copy, wanted))]
    return [row for _, row in sorted(rows, key=lambda one: (one[0], -one[1]["free"], one[1]["host"]))]


def _readable_row(copy: HostCopy, wanted: Wanted) -> tuple[int, dict[str, Any]] | None:
    try:
        row = _row(copy, wanted)
        msgspec.json.encode(row)
    except TROUBLE:  # What another host writes is not to be trusted: `status --all` says what is wrong.
        return None
    return row


def _row(copy: HostCopy, wanted: Wanted) -> tuple[int, dict[str, Any]] | None:
    seen, count = copy.snapshot, wanted.count
    divided = instances_by_card(seen)
    fitting = [gpu for gpu in seen.gpus if _fits(gpu, wanted, is_divided=gpu.usage.index in divided)]
    if len(fitting) < count:
        return None
    known = {gpu.usage.index for gpu in fitting}
    free = sum(row["status"] == "AVAILABLE" and row["gpu_id"] in known for row in gpu_rows(copy))
    start_ms = None if copy.away else _start_ms(msgspec.structs.replace(seen, gpus=tuple(fitting)), wanted)
    now = start_ms is not None and start_ms <= seen.now_ms
    if now and free < count:  # Its scans fail: nothing is known.
        start_ms, now = None, False
    row = {
        "host": copy.host,
        "models": sorted({gpu.usage.name for gpu in fitting}),
        "gpus": len(fitting),
        "profile": wanted.profile,
        "free": free,
        "waiting": len(seen.waiting),
        "now": now,
        "start": rfc3339(start_ms),
        "away": copy.away or None,
        "seen_s": copy.age_ms // 1000,
    }
    return NEVER_MS if start_ms is None else start_ms - seen.now_ms, row


def _fits(gpu: GpuState, wanted: Wanted, *, is_divided: bool) -> bool:
    usage = gpu.usage
    if wanted.profile is None:
        is_kind = not is_divided and not is_instance(usage.index)
    else:
        is_kind = usage.profile == wanted.profile
    return is_kind and not gpu.unmanaged and wanted.model.casefold() in usage.name.casefold()


def _start_ms(seen: Snapshot, wanted: Wanted) -> int | None:
    """Return when a request that came now would be served, after all who wait."""
    last = max((one.place for one in seen.waiting), default=0) + 1
    asked = Waiting(
        id=ASKED,
        kind=MANUAL,
        user="",
        uid=-1,
        place=last,
        queued_ms=seen.now_ms,
        count=wanted.count,
        profile=wanted.profile,
        attached=True,
    )
    return queue_eta(msgspec.structs.replace(seen, waiting=(*seen.waiting, asked))).get(ASKED)
