"""What is known of a GPU: the raw reading of a provider, and the usage that is made of it."""

import msgspec


class ProcessReading(msgspec.Struct, frozen=True, kw_only=True):
    """One process a provider saw on a GPU. `memory_mb` is None when it cannot be told.

    `unseen`: two scans did not find it in /proc: it is hidden, of another PID namespace, or dead with its
    memory left.
    """

    pid: int
    memory_mb: int | None
    kinds: tuple[str, ...] = ("compute",)  # of compute, graphics, mps
    user: str | None = None  # set by the simulation only: instead of what the system says
    name: str | None = None  # likewise
    unseen: bool = False


class MigReading(msgspec.Struct, frozen=True, kw_only=True):
    """One MIG instance of a GPU."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    memory_total_mb: int | None
    memory_used_mb: int | None


class GpuReading(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU in one scan, as the provider saw it; memory in MiB, reserved memory is not used.

    `error`: the GPU is broken or gone. `unknown`: it answers, but not what we must know. Both are
    a sentence without a final stop; neither ever means idle. No `memory_used_mb` in a reading without
    either: the GPU has no memory of its own to report, such as one that shares the host's.
    `processes_reported`: whether the driver says who uses this GPU.
    """

    index: int
    uuid: str
    name: str
    memory_total_mb: int | None = None
    memory_used_mb: int | None = None
    utilization_percent: int | None = None
    processes: tuple[ProcessReading, ...] = ()
    processes_reported: bool = True
    mig: tuple[MigReading, ...] = ()
    error: str | None = None
    unknown: str | None = None
    remedy: str | None = None  # What to do about either of them.


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """The container a process runs in, from its cgroup; `name` where it can be had."""

    runtime: str
    id: str
    name: str | None = None


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """Who a process probably belongs to, and the sentence fragment that says how one can tell.

    Never a proof: whoever started the process may have chosen it. It is shown, and told to holders and
    administrators as a hint; the user it names is never told.
    """

    user: str
    uid: int | None
    source: str  # Such as: container "train" has /home/jon mounted


class ProcessUse(msgspec.Struct, frozen=True, kw_only=True):
    """A process on a GPU and whose it is.

    `user` is what people are shown; `person` is the user to tell, None when no rung of `evidence`
    proves one. `start` is the start time in clock ticks since boot (field 22 of /proc/PID/stat).
    `reservation` is what the environment of a process without a proven person claims to belong to; `run` is
    the run whose process it descends from, by the kernel's word. `login_uid` is who logged in (the audit
    login uid), which sudo and su do not change. `hint` is set only where nobody is proven.
    `began_ms` is when it began, by this host's clock when it was first seen.
    `program` is the path of its executable where only root could have put it there (/proc/PID/exe).
    """

    pid: int
    name: str
    user: str
    memory_mb: int | None
    uid: int | None = None
    start: int | None = None
    person: str | None = None
    evidence: str = "unknown"  # of EVIDENCE
    container: Container | None = None
    reservation: str | None = None
    run: str | None = None
    login_uid: int | None = None
    hint: Hint | None = None
    program: str | None = None
    began_ms: int | None = None


# The rungs, best first; on the first five a person may be told.
EVIDENCE = ("reservation", "uid", "subuid", "slice", "loginuid", "label", "unknown")
PROVEN = frozenset(EVIDENCE[:5])


class GpuUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one scan says of one GPU; kept as JSON in the field `usage` of the GPU's hash.

    `state` is ok, error or unknown, `reason` says why it is not ok, and `remedy` what to do about it.
    `memory_mb` is what is counted: the processes' sum where they are known, else the device's. `processes`
    leaves exempt ones out.
    """

    index: int
    uuid: str
    name: str
    state: str = "ok"
    reason: str | None = None
    remedy: str | None = None
    in_use: bool = False
    memory_mb: int = 0
    memory_used_mb: int | None = None
    memory_total_mb: int | None = None
    utilization_percent: int | None = None
    users: tuple[str, ...] = ()
    processes: tuple[ProcessUse, ...] = ()
    exempt: tuple[ProcessUse, ...] = ()
    mig: tuple[MigReading, ...] = ()
