"""Decides whether a GPU is in use and by whom, from one reading, its processes and the settings."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading, GpuUsage, ProcessUse, RunMember

# A shared server that runs as root for programs of other users.
SHARED_SERVERS = frozenset({"nvidia-cuda-mps-server"})
HOUSEKEEPING = 5  # Percent of utilisation that an idle GPU may have.
DESKTOP = 50  # The same next to exempt programs, which draw a screen.
NOTHING_REPORTED = "the driver reports neither its memory nor its processes"
NEWER_DRIVER = "a newer driver may report them; until then, this GPU cannot be allocated"
KERNEL_NAME = 15  # Maximum length of a process name in the kernel, in bytes.


def gpu_usage(reading: GpuReading, processes: Sequence[ProcessUse], settings: Settings) -> GpuUsage:
    """Return the usage of a GPU in one scan.

    A GPU is in use if more memory than `memory.threshold_mb` is used on the device or by its processes, or if
    there is a process with unknown memory. Exempt users and programs and their memory do not count, and
    neither does a shared server next to the programs that it serves. A GPU without memory of its own to
    report is in use if it has any process, or utilisation without a process. The usage of a GPU that cannot
    be read, or reports none of these values, is unknown.
    """
    if reading.error or reading.unknown:
        return GpuUsage(
            index=reading.index,
            uuid=reading.uuid,
            name=reading.name,
            vendor=reading.vendor,
            ordinal=reading.ordinal,
            minor=reading.minor,
            state="error" if reading.error else "unknown",
            reason=reading.error or reading.unknown,
            remedy=reading.remedy,
            memory_total_mb=reading.memory_total_mb,
            mig=reading.mig,
            profile=reading.profile,
        )
    exempt = _exempt(reading, processes, settings)
    counted = sorted((one for one in processes if one not in exempt), key=lambda one: one.pid)
    device = max(0, (reading.memory_used_mb or 0) - sum(one.memory_mb or 0 for one in exempt))
    if any(one.memory_mb is None for one in exempt):
        device = 0  # Their share of the memory is not known, and exempt use is not a violation.
    known = sum(one.memory_mb or 0 for one in counted)
    untold = any(one.memory_mb is None for one in counted)
    reported = reading.memory_used_mb is not None
    if reported:
        in_use = untold or max(device, known) > settings.memory.threshold_mb
    else:
        # Memory does not limit exempt programs there, and a user could make one load anything.
        idle_work = DESKTOP if exempt else HOUSEKEEPING
        explained = any(one.user in settings.violations.exempt_users for one in exempt)
        in_use = bool(counted) or (not explained and (reading.utilization_percent or 0) > idle_work)
    nothing_known = not reported and not reading.processes_reported and not in_use
    return GpuUsage(
        index=reading.index,
        uuid=reading.uuid,
        name=reading.name,
        vendor=reading.vendor,
        ordinal=reading.ordinal,
        minor=reading.minor,
        state="unknown" if nothing_known else "ok",
        reason=NOTHING_REPORTED if nothing_known else None,
        remedy=NEWER_DRIVER if nothing_known else None,
        in_use=in_use,
        memory_mb=known if counted and not untold else max(device, known),
        memory_used_mb=reading.memory_used_mb,
        memory_total_mb=reading.memory_total_mb,
        utilization_percent=reading.utilization_percent,
        temperature_c=reading.temperature_c,
        users=_users(counted) if in_use else (),
        processes=tuple(counted) if in_use else (),
        exempt=tuple(exempt),
        members=() if in_use else _members(counted),
        mig=reading.mig,
        profile=reading.profile,
    )


def _exempt(reading: GpuReading, processes: Sequence[ProcessUse], settings: Settings) -> list[ProcessUse]:
    """Return the exempt processes: those of exempt users, and exempt programs up to a memory limit."""
    rules = settings.violations
    by_user = [one for one in processes if one.user in rules.exempt_users]
    names = {*rules.exempt_processes, *SHARED_SERVERS}
    by_program = [one for one in processes if one not in by_user and _runs(one, names)]
    known = sum(one.memory_mb or 0 for one in processes)
    unexplained = max(0, (reading.memory_used_mb or 0) - known)
    spent: Counter[int | None] = Counter()
    for one in by_program:
        spent[one.uid] += unexplained if one.memory_mb is None else one.memory_mb
    within = [one for one in by_program if spent[one.uid] <= rules.exempt_memory_mb]
    return by_user + within


def _runs(process: ProcessUse, names: set[str]) -> bool:
    """Return whether a process runs one of these programs, given as file names or paths.

    For a process of root, only the kernel's name may be known, which is cut to 15 bytes.
    """
    if process.program is None:
        return False
    name = PurePosixPath(process.program).name
    if name in SHARED_SERVERS and process.uid != 0:
        return False  # It serves only that user.
    cut = not process.program.startswith("/")
    return any(
        one in {process.program, name} or (cut and one.encode()[:KERNEL_NAME] == name.encode())
        for one in names
    )


def _members(processes: Sequence[ProcessUse]) -> tuple[RunMember, ...]:
    return tuple(
        RunMember(pid=one.pid, start=one.start, run=one.run)
        for one in processes
        if one.run is not None and one.start is not None
    )


def _users(processes: Sequence[ProcessUse]) -> tuple[str, ...]:
    if not processes:
        return ("unknown",)
    return tuple(sorted({process.user for process in processes}))
