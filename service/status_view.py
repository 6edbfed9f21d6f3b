"""A snapshot as other programs read it: one object per GPU. What cannot be known is UNKNOWN."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from canhazgpu.events.durations import spell_duration
from canhazgpu.service.snapshot import GpuState, Snapshot

OLDEST = 5.0  # Seconds; an older scan says nothing about now (or three intervals, where that is more).


def status(snapshot: Snapshot, scan_interval: float) -> list[dict[str, Any]]:
    """Return the host's GPUs by index.

    `status` is AVAILABLE, IN_USE (reserved), UNRESERVED, ERROR or UNKNOWN, the latter two with a
    `reason`. Times are RFC 3339 in UTC, memory is in MiB.
    """
    blind = _blind(snapshot, scan_interval)
    return [_gpu(gpu, snapshot, blind) for gpu in snapshot.gpus]


def _blind(snapshot: Snapshot, scan_interval: float) -> str | None:
    """Return why nothing is known of any GPU now, None when the last scan is recent."""
    scanned = snapshot.scanned_ms
    if scanned is None:
        return "no scan yet"
    age = max(0.0, (snapshot.now_ms - scanned) / 1000)
    if snapshot.stalled_ms is None and age <= max(OLDEST, 3 * scan_interval):
        return None
    return f"no scan for {spell_duration(age)}"


def _gpu(gpu: GpuState, snapshot: Snapshot, blind: str | None) -> dict[str, Any]:
    usage = gpu.usage
    state, reason = _state(gpu, blind)
    processes = [
        {
            "pid": process.pid,
            "name": process.name,
            "user": process.user,
            "memory_mb": process.memory_mb,
            "container": msgspec.to_builtins(process.container),
            "evidence": process.evidence,
        }
        for process in usage.processes
    ]
    return {
        "gpu_id": usage.index,
        "uuid": usage.uuid,
        "name": usage.name,
        "status": state,
        "reason": reason,
        "users": list(usage.users),
        "memory_mb": usage.memory_mb,
        "memory_total_mb": usage.memory_total_mb,
        "processes": processes,
        "reservation": {"id": gpu.holder, "user": gpu.holder_user} if gpu.holder else None,
        "violations": [msgspec.to_builtins(violation) for violation in gpu.violations],
        "mig": [msgspec.to_builtins(instance) for instance in usage.mig],
        "last_released": rfc3339(gpu.last_released_ms),
        "released_s": _ago(snapshot.now_ms, gpu.last_released_ms),
        "scanned_at": rfc3339(snapshot.scanned_ms),
    }


def _state(gpu: GpuState, blind: str | None) -> tuple[str, str | None]:
    usage = gpu.usage
    if blind:
        return "UNKNOWN", blind
    if usage.state != "ok":
        return ("ERROR" if usage.state == "error" else "UNKNOWN"), usage.reason
    if gpu.holder:
        return "IN_USE", None
    return ("UNRESERVED" if usage.in_use else "AVAILABLE"), None


def _ago(now_ms: int, then_ms: int | None) -> int | None:
    return None if then_ms is None else max(0, (now_ms - then_ms) // 1000)


def rfc3339(ms: int | None) -> str | None:
    """Return a moment, given in milliseconds since 1970, as RFC 3339 in UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
