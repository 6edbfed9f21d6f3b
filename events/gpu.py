"""The state of a GPU: the raw reading of a provider, and the usage derived from it."""

import re
from typing import Literal

import msgspec

Vendor = Literal["nvidia", "amd"]
NVIDIA: Vendor = "nvidia"
AMD: Vendor = "amd"
VENDORS = {NVIDIA: "NVIDIA", AMD: "AMD"}  # As people read them.
OF_AMD = re.compile(r"GPU-[0-9a-f]{16}|PCI-.*")  # service/providers/amd_helper.py


def vendor_of(uuid: str) -> Vendor:
    """Return the vendor of a card by the form of its UUID, as the providers spell it."""
    return AMD if OF_AMD.fullmatch(uuid) else NVIDIA


class ProcessReading(msgspec.Struct, frozen=True, kw_only=True):
    """One process that a provider found on a GPU. `memory_mb` is None if it is not known.

    `unseen`: two scans did not find it in /proc. It is hidden, in another PID namespace, or dead with its
    memory still in use.
    """

    pid: int
    memory_mb: int | None
    kinds: tuple[str, ...] = ("compute",)  # of compute, graphics, mps
    user: str | None = None  # set by the simulation only: instead of what the system says
    name: str | None = None  # likewise
    unseen: bool = False


class MigReading(msgspec.Struct, frozen=True, kw_only=True):
    """One MIG instance of a GPU. It is a GPU itself: its own reading has its processes.

    `number` is the 1 of `GPU 0:1`, as the driver counts the instances. `profile` is such as 1g.10gb, None if
    it is not known.
    """

    uuid: str
    gpu_instance: int
    compute_instance: int
    memory_total_mb: int | None
    memory_used_mb: int | None
    number: int = 0
    profile: str | None = None


class GpuReading(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU in one scan, as read by the provider. Memory is in MiB; reserved memory does not count as used.

    `error`: the GPU is broken or gone. `unknown`: it answers, but a required value is missing. Both are
    sentences without a full stop, and neither means idle. If both are empty and `memory_used_mb` is None,
    the GPU has no memory of its own, like one that shares the host's memory.
    `processes_reported`: whether the driver reports the processes on this GPU. `minor` is the N of its device
    file /dev/nvidiaN, which is not its index; None if it is not known. `ordinal` is the number by which the
    vendor's runtime counts it, if that is not its index.
    A MIG instance has a reading of its own, with the index that `spelling.gpu_numbers` gives it, and its
    `profile`. `divided`: whether MIG is on, and `mig` is all of its instances; None if that is not known.
    """

    index: int
    uuid: str
    name: str
    vendor: Vendor = NVIDIA
    ordinal: int | None = None
    minor: int | None = None
    memory_total_mb: int | None = None
    memory_used_mb: int | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None
    processes: tuple[ProcessReading, ...] = ()
    processes_reported: bool = True
    mig: tuple[MigReading, ...] = ()
    divided: bool | None = None
    profile: str | None = None
    error: str | None = None
    unknown: str | None = None
    remedy: str | None = None  # What to do about either of them.


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """The container of a process, from its cgroup; `name` is set if it is known."""

    runtime: str
    id: str
    name: str | None = None


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """The probable owner of a process, and a sentence fragment with the reason.

    It is not proof, because the user who started the process may have forged it. It is shown to holders and
    administrators as a hint. The user it names is never notified.
    """

    user: str
    uid: int | None
    source: str  # Such as: container "train" has /home/jon mounted


class ProcessUse(msgspec.Struct, frozen=True, kw_only=True):
    """A process on a GPU and its owner.

    `user` is the displayed name; `person` is the user to notify, None if no `evidence` proves one.
    `start` is the start time in clock ticks since boot (field 22 of /proc/PID/stat). `reservation` is the
    reservation that the environment of a process without a proven user claims to belong to; `run` is the run
    that the process descends from, according to the kernel. `login_uid` is the audit login uid, which sudo
    and su do not change; None if the process has an ordinary user's own uid. `hint` is set only if no user is
    proven. `began_ms` is the start time on this host's clock, taken when the process was first seen.
    `program` is the path of its executable (/proc/PID/exe) if only root could have installed it there.
    `unnamed`: it runs on the host with the uid of a user whose name no user database knows, so it is not the
    holder's.
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
    unnamed: bool = False


# Kinds of evidence, strongest first; with the first five a user is notified.
EVIDENCE = ("reservation", "uid", "subuid", "slice", "loginuid", "label", "unknown")
PROVEN = frozenset(EVIDENCE[:5])


class RunMember(msgspec.Struct, frozen=True, kw_only=True):
    """A process that belongs to a run, on a GPU that does not count as in use."""

    pid: int
    start: int
    run: str


class GpuUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one scan for one GPU, stored as JSON in the field `usage` of the GPU's hash.

    `state` is ok, error or unknown, `reason` says why it is not ok, and `remedy` what to do about it.
    `memory_mb` is the counted memory: the sum of the processes if known, else that of the device.
    `processes` does not contain exempt ones. `members` are processes of runs that use too little to count:
    the next service must know that they belong to the run. `minor` is the N of /dev/nvidiaN.
    `ordinal` is as in the reading. `profile` is set for MIG instances: scripts search this text for it.
    """

    index: int
    uuid: str
    name: str
    vendor: Vendor = NVIDIA
    ordinal: int | None = None
    minor: int | None = None
    state: str = "ok"
    reason: str | None = None
    remedy: str | None = None
    in_use: bool = False
    memory_mb: int = 0
    memory_used_mb: int | None = None
    memory_total_mb: int | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None
    users: tuple[str, ...] = ()
    processes: tuple[ProcessUse, ...] = ()
    exempt: tuple[ProcessUse, ...] = ()
    members: tuple[RunMember, ...] = ()
    mig: tuple[MigReading, ...] = ()
    profile: str | None = None
