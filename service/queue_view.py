"""The queue for people: who waits for what, why, and when their turn is likely to come."""

import math
from typing import Any

from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.snapshot import GpuState, Snapshot
from canhazgpu.service.status_view import rfc3339


def queue(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return a row for each request, in order; `position` begins at 1.

    `expected` is when it gets its GPUs if everybody stays as long as they may: null where a run has
    no timeout, a GPU is broken, or somebody uses it without a reservation.
    """
    ends = _ends(snapshot)
    return [
        {
            "id": request.id,
            "position": position,
            "user": request.user,
            "label": request.label,
            "note": request.note,
            "kind": request.kind,
            "count": request.need,
            "gpus": list(request.gpus) if request.gpus else None,
            "queued": rfc3339(request.queued_ms),
            "waiting_s": max(0, (snapshot.now_ms - request.queued_ms) // 1000),
            "expected": _expected(request, ends, snapshot.now_ms),
            "reason": reason(request, snapshot),
        }
        for position, request in enumerate(snapshot.waiting, 1)
    ]


def reason(request: Waiting, snapshot: Snapshot) -> str:
    """Return what a request waits for, as a sentence without a final stop."""
    held = sum(len(record.gpus) for record in snapshot.reservations if record.uid == request.uid)
    if request.limit is not None and held + request.need > request.limit:
        return f"you hold {held} of the {request.limit} GPUs you may have"
    wanted = [gpu for gpu in snapshot.gpus if _wants(request, gpu) and not gpu.unmanaged]
    found: dict[str, list[str]] = {}
    for gpu in wanted:
        kind, detail = _why(gpu)
        found.setdefault(kind, []).append(f"GPU {gpu.usage.index} {detail}".strip())
    parts = [f"{len(rows)} {kind} ({', '.join(rows)})" for kind, rows in found.items()]
    return f"needs {request.need} of {len(wanted)}: " + "; ".join(parts)


def _wants(request: Waiting, gpu: GpuState) -> bool:
    return request.gpus is None or gpu.usage.index in request.gpus


def _why(gpu: GpuState) -> tuple[str, str]:
    if gpu.reservation:
        end = rfc3339(end_of(gpu.reservation))
        until = f" until {end[:10]} {end[11:19]} UTC" if end else ""
        return "reserved", f"by {gpu.reservation.user}{until}"
    if gpu.drained:
        return "drained", ""
    if gpu.usage.state != "ok":
        return gpu.usage.state, ""
    if gpu.usage.in_use:
        return "in use without reservation", "by " + ", ".join(gpu.usage.users)
    return "free", ""


def end_of(record: Record) -> int | None:
    """Return when a reservation ends at the latest, in ms, None when nothing says so."""
    if record.timeout_ms is not None:
        return record.started_ms + record.timeout_ms
    return record.expires_ms


def _ends(snapshot: Snapshot) -> dict[int, float]:
    """Return for each GPU when it can be had, in ms; never is infinite."""
    ends: dict[int, float] = {}
    for gpu in snapshot.gpus:
        broken = gpu.usage.state != "ok" or gpu.drained or gpu.unmanaged
        if broken or (gpu.usage.in_use and not gpu.reservation):
            ends[gpu.usage.index] = math.inf
        elif gpu.reservation:
            ends[gpu.usage.index] = end_of(gpu.reservation) or math.inf
        else:
            ends[gpu.usage.index] = snapshot.now_ms
    return ends


def _expected(request: Waiting, ends: dict[int, float], now_ms: int) -> str | None:
    """Return when the request is served, and let its GPUs be taken until it ends."""
    wanted = sorted((ends[index], index) for index in (request.gpus or ends) if index in ends)
    if len(wanted) < request.need:
        return None
    taken = wanted[: request.need]
    moment = max(taken)[0]
    lasts = request.duration_ms or request.timeout_ms or math.inf
    for _, index in taken:
        ends[index] = moment + lasts
    return None if math.isinf(moment) else rfc3339(max(now_ms, int(moment)))
