"""The status response: one object per GPU. A state that is not known is UNKNOWN."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from canhazgpu.events import timestamps
from canhazgpu.events.durations import spell_duration
from canhazgpu.events.gpu import ProcessUse
from canhazgpu.events.reservations import Record
from canhazgpu.events.silences import Silence
from canhazgpu.events.spelling.gpu_numbers import card_of, spell_gpu
from canhazgpu.events.violations import Violation
from canhazgpu.service.status.process_ownership import ownership
from canhazgpu.service.status.promised_windows import end_of
from canhazgpu.service.storage.policy import OLDEST
from canhazgpu.service.storage.snapshot import GpuState, Snapshot, instances_by_card

BROKEN = ("ERROR", "UNKNOWN")


def status(snapshot: Snapshot, scan_interval: float, *, presume_holder: bool) -> list[dict[str, Any]]:
    """Return the host's GPUs by index.

    `status` is AVAILABLE, IN_USE (reserved), UNRESERVED, DRAINED, UNMANAGED, ERROR, UNKNOWN or PARTITIONED:
    it has MIG `instances`, which have a row each, and nobody holds all of it. DRAINED, ERROR and UNKNOWN have
    a `reason`, and the last two a `remedy`. If only the last known state is available
    (`stale_reason`), no GPU is AVAILABLE; it is UNKNOWN instead. `others` are the processes of other users on
    a reserved GPU; `presumed` are those that are assumed to be the holder's, if `presume_holder` is set.
    Times are RFC 3339 in UTC, durations are in seconds, memory is in MiB.
    """
    blind, instances = _blind(snapshot, scan_interval), instances_by_card(snapshot)
    return [
        _gpu(gpu, snapshot, blind, presume_holder, instances.get(gpu.usage.index, []))
        for gpu in snapshot.gpus
    ]


def states(snapshot: Snapshot, scan_interval: float) -> list[str]:
    """Return the `status` of each GPU only."""
    blind = _blind(snapshot, scan_interval)
    found = [_state(gpu, blind)[0] for gpu in snapshot.gpus]
    return ["UNKNOWN" if one == "AVAILABLE" and snapshot.stale_reason else one for one in found]


def _blind(snapshot: Snapshot, scan_interval: float) -> str | None:
    """Return why the state of all GPUs is unknown, or None if the last scan is recent.

    The age of the scan comes last, because users look for the reason.
    """
    scanned = snapshot.scanned_ms
    if scanned is None:
        return snapshot.stalled_reason or "no scan yet"
    age = max(0.0, (snapshot.now_ms - snapshot.age_ms - scanned) / 1000)
    if snapshot.stalled_ms is None and age <= max(OLDEST, 3 * scan_interval):
        return None
    late = f"no scan for {spell_duration(age)}"
    return f"{snapshot.stalled_reason}, {late}" if snapshot.stalled_reason else late


def _gpu(
    gpu: GpuState,
    snapshot: Snapshot,
    blind: str | None,
    presume_holder: bool,  # noqa: FBT001
    instances: list[int],
) -> dict[str, Any]:
    usage = gpu.usage
    state, reason = _state(gpu, blind)
    if snapshot.stale_reason and state == "AVAILABLE":
        since = "" if snapshot.stale_s is None else f" {spell_duration(snapshot.stale_s)} ago"
        state, reason = "UNKNOWN", f"available{since}; {snapshot.stale_reason}"
    if instances and state == "AVAILABLE":
        state = "PARTITIONED"
    by_ownership = _by_ownership(gpu, presume_holder)
    silenced = [silenced_until(violation, snapshot.silences) for violation in gpu.violations]
    return {
        "gpu_id": usage.index,
        "number": spell_gpu(usage.index),
        "parent": card_of(usage.index),
        "profile": usage.profile,
        "uuid": usage.uuid,
        "name": usage.name,
        "vendor": usage.vendor,
        "minor": usage.minor,
        "status": state,
        "reason": reason,
        "remedy": _remedy(gpu, snapshot, blind) if state in BROKEN else None,
        "users": list(usage.users),
        "memory_mb": usage.memory_mb,
        "memory_used_mb": usage.memory_used_mb,
        "memory_total_mb": usage.memory_total_mb,
        "utilization_percent": usage.utilization_percent,
        "temperature_c": usage.temperature_c,
        "in_use": usage.in_use,
        "processes": [_process(one) for one in usage.processes],
        "others": [_process(one) for one in (*by_ownership["hinted"], *by_ownership["other"])],
        "presumed": [_process(one) for one in by_ownership["presumed"]],
        "reservation": reservation(gpu.reservation, snapshot.now_ms) if gpu.reservation else None,
        "drained": gpu.drained or None,
        "violations": [
            {**msgspec.to_builtins(violation), "silenced_until": rfc3339(until_ms)}
            for violation, until_ms in zip(gpu.violations, silenced, strict=True)
        ],
        "silenced_s": _left(silenced, snapshot.now_ms),
        "mig": [msgspec.to_builtins(instance) for instance in usage.mig],
        "instances": instances,
        "last_released": rfc3339(gpu.last_released_ms),
        "released_s": _ago(snapshot.now_ms, gpu.last_released_ms),
        "scanned_at": rfc3339(snapshot.scanned_ms),
        "stale_s": snapshot.stale_s,
        "stale_reason": snapshot.stale_reason or None,
    }


def _process(process: ProcessUse) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "name": process.name,
        "user": process.user,
        "memory_mb": process.memory_mb,
        "container": msgspec.to_builtins(process.container),
        "evidence": process.evidence,
        "hint": msgspec.to_builtins(process.hint),
    }


def _by_ownership(gpu: GpuState, presume_holder: bool) -> Mapping[str, list[ProcessUse]]:  # noqa: FBT001
    found: dict[str, list[ProcessUse]] = defaultdict(list)
    if gpu.reservation:
        for process in gpu.usage.processes:
            is_ = ownership(process, gpu.reservation, gpu.disowned, presume_holder=presume_holder)
            found[is_].append(process)
    return found


def reservation(record: Record, now_ms: int) -> dict[str, Any]:
    """Return a reservation as an API response."""
    return {
        "id": record.id,
        "kind": record.kind,
        "user": record.user,
        "label": record.label,
        "note": record.note,
        "gpus": list(record.gpus),
        "pid": record.pid,
        "started": rfc3339(record.started_ms),
        "for_s": _ago(now_ms, record.started_ms),
        "expires": rfc3339(record.expires_ms),
        "expires_in_s": None if record.expires_ms is None else max(0, (record.expires_ms - now_ms) // 1000),
        "until": rfc3339(end_of(record)),
        "last_heartbeat_s": _ago(now_ms, record.heartbeat_ms),
        "lingering_s": _ago(now_ms, record.ended_ms),
        "idle_s": None if record.ended_ms else _ago(now_ms, record.idle_ms),
    }


def silenced_until(violation: Violation, silences: Sequence[Silence]) -> int | None:
    """Return the end of the last silence that covers a violation, in ms, or None."""
    return max((one.until_ms for one in silences if one.covers(violation)), default=None)


def _left(silenced: Sequence[int | None], now_ms: int) -> int | None:
    """Return for how many seconds, rounded up, all violations are silenced, or None if they are not."""
    ends = [until_ms for until_ms in silenced if until_ms is not None]
    return -((now_ms - min(ends)) // 1000) if ends and len(ends) == len(silenced) else None


def _state(gpu: GpuState, blind: str | None) -> tuple[str, str | None]:
    usage = gpu.usage
    if gpu.unmanaged:
        return "UNMANAGED", None
    if blind or gpu.unreadable:
        unreadable = f"its reservation {gpu.unreadable} cannot be read: an administrator can release it"
        return "UNKNOWN", blind or unreadable
    if usage.state != "ok":
        return ("ERROR" if usage.state == "error" else "UNKNOWN"), usage.reason
    if gpu.reservation:
        return "IN_USE", None
    if gpu.drained and not usage.in_use:
        return "DRAINED", gpu.drained
    return ("UNRESERVED" if usage.in_use else "AVAILABLE"), None


def _remedy(gpu: GpuState, snapshot: Snapshot, blind: str | None) -> str | None:
    return snapshot.stalled_remedy or None if blind else gpu.usage.remedy


def _ago(now_ms: int, then_ms: int | None) -> int | None:
    return None if then_ms is None else max(0, (now_ms - then_ms) // 1000)


def rfc3339(ms: int | None) -> str | None:
    """Return a time in milliseconds since 1970 as RFC 3339 in UTC."""
    return None if ms is None else timestamps.rfc3339(ms)
