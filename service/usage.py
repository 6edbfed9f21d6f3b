"""Whether a GPU is in use, and by whom: one reading, its processes and the settings decide."""

from collections.abc import Sequence

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading, GpuUsage, ProcessUse


def judge(reading: GpuReading, processes: Sequence[ProcessUse], settings: Settings) -> GpuUsage:
    """Return what one scan says of a GPU.

    In use means: memory in use on the device above `memory.threshold_mb`, or by its processes, or a
    process whose memory cannot be told. Exempt users and processes, and their memory, do not count.
    A GPU that cannot be read is not judged; one whose memory is unknown is in use by any process.
    """
    if reading.error or reading.unknown:
        return GpuUsage(
            index=reading.index,
            uuid=reading.uuid,
            name=reading.name,
            state="error" if reading.error else "unknown",
            reason=reading.error or reading.unknown,
            memory_total_mb=reading.memory_total_mb,
        )
    exempt = [process for process in processes if _is_exempt(process, settings)]
    counted = sorted((one for one in processes if one not in exempt), key=lambda one: one.pid)
    device = max(0, (reading.memory_used_mb or 0) - sum(one.memory_mb or 0 for one in exempt))
    if any(one.memory_mb is None for one in exempt):
        device = 0  # How much of it is theirs cannot be told; what they use is nobody's fault.
    known = sum(one.memory_mb or 0 for one in counted)
    untold = any(one.memory_mb is None for one in counted)
    nothing_known = reading.memory_used_mb is None and not counted
    in_use = untold or max(device, known) > settings.memory.threshold_mb
    return GpuUsage(
        index=reading.index,
        uuid=reading.uuid,
        name=reading.name,
        state="unknown" if nothing_known else "ok",
        reason="its memory cannot be read" if nothing_known else None,
        in_use=in_use,
        memory_mb=known if counted and not untold else max(device, known),
        memory_used_mb=reading.memory_used_mb,
        memory_total_mb=reading.memory_total_mb,
        utilization_percent=reading.utilization_percent,
        users=_users(counted) if in_use else (),
        processes=tuple(counted) if in_use else (),
        exempt=tuple(exempt),
        mig=reading.mig,
    )


def _is_exempt(process: ProcessUse, settings: Settings) -> bool:
    rules = settings.violations
    return process.name in rules.exempt_processes or process.user in rules.exempt_users


def _users(processes: Sequence[ProcessUse]) -> tuple[str, ...]:
    if not processes:
        return ("unknown",)
    return tuple(sorted({process.user for process in processes}))
