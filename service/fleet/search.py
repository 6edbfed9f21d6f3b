"""Finds the hosts on which a number of GPUs is free now, or first."""

from collections.abc import Iterable
from typing import Any

import msgspec

from canhazgpu.events.reservations import MANUAL, Waiting
from canhazgpu.service.fleet.mirror_reader import TROUBLE, HostCopy
from canhazgpu.service.fleet.views import gpu_rows
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.status.queue_eta import queue_eta
from canhazgpu.service.storage.snapshot import GpuState, Snapshot

ASKED = "asked"  # The id of the request that is asked about.
NEVER_MS = 10**15


def found(copies: Iterable[HostCopy], count: int, model: str) -> list[dict[str, Any]]:
    """Return the hosts that have `count` GPUs whose model contains `model`, the first to start first."""
    rows = [row for copy in copies if (row := _readable_row(copy, count, model))]
    return [row for _, row in sorted(rows, key=lambda one: (one[0], -one[1]["free"], one[1]["host"]))]


def _readable_row(copy: HostCopy, count: int, model: str) -> tuple[int, dict[str, Any]] | None:
    try:
        row = _row(copy, count, model)
        msgspec.json.encode(row)
    except TROUBLE:  # What another host writes is not to be trusted: `status --all` says what is wrong.
        return None
    return row


def _row(copy: HostCopy, count: int, model: str) -> tuple[int, dict[str, Any]] | None:
    seen = copy.snapshot
    wanted = [gpu for gpu in seen.gpus if _fits(gpu, model)]
    if len(wanted) < count:
        return None
    known = {gpu.usage.index for gpu in wanted}
    free = sum(row["status"] == "AVAILABLE" and row["gpu_id"] in known for row in gpu_rows(copy))
    start_ms = None if copy.away else _start_ms(msgspec.structs.replace(seen, gpus=tuple(wanted)), count)
    now = start_ms is not None and start_ms <= seen.now_ms
    if now and free < count:  # Its scans fail: nothing is known.
        start_ms, now = None, False
    row = {
        "host": copy.host,
        "models": sorted({gpu.usage.name for gpu in wanted}),
        "gpus": len(wanted),
        "free": free,
        "waiting": len(seen.waiting),
        "now": now,
        "start": rfc3339(start_ms),
        "away": copy.away or None,
        "seen_s": copy.age_ms // 1000,
    }
    return NEVER_MS if start_ms is None else start_ms - seen.now_ms, row


def _fits(gpu: GpuState, model: str) -> bool:
    return not gpu.unmanaged and model.casefold() in gpu.usage.name.casefold()


def _start_ms(seen: Snapshot, count: int) -> int | None:
    """Return when a request that came now would be served, after all who wait."""
    last = max((one.place for one in seen.waiting), default=0) + 1
    asked = Waiting(
        id=ASKED, kind=MANUAL, user="", uid=-1, place=last, queued_ms=seen.now_ms, count=count, attached=True
    )
    return queue_eta(msgspec.structs.replace(seen, waiting=(*seen.waiting, asked))).get(ASKED)
