"""Decides which GPUs a container asks for, and whether the user who started it has reserved them."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from canhazgpu.events.gpu import NVIDIA
from canhazgpu.events.reservations import Record
from canhazgpu.events.spelling.gpu_numbers import card_of, is_instance, read_instance, spell_gpu
from canhazgpu.events.spelling.gpu_ranges import spell_ranges
from canhazgpu.service.storage.snapshot import GpuState, Snapshot

ALL = "all"
SHORTEST_UUID = 8  # Characters of a UUID that the container toolkit accepts for the whole.
MOST_SHOWN = 8
RUN_DOCKER = "start it with `canhazgpu run --gpus 1 -- docker run --gpus all IMAGE`"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The GPUs that the configuration of a container opens.

    `names`: all, or indices and UUIDs. `devices`: numbers of device files, the N of /dev/nvidiaN. `every`: it
    can open any GPU (privileged, or a rule for all devices). `narrow`: the caller can take GPUs away from it.
    """

    names: tuple[str, ...] = ()
    devices: tuple[int, ...] = ()
    every: bool = False
    narrow: bool = False


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """Who is proven to have started a container: `user`, if anybody; `is_own` tells the reservations.

    `run_gpus`: the GPUs of the run that passed its token on; None without a token.
    """

    user: str | None
    is_own: Callable[[Record], bool]
    exempt: bool = False
    run_gpus: frozenset[int] | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the user has reserved the GPUs, `only` the ones to which it is narrowed, or the `reason`."""

    gpus: tuple[int, ...]
    only: tuple[int, ...] | None = None
    reason: str | None = None
    remedy: str | None = None


def decide(asked: Asked, starter: Starter, snapshot: Snapshot) -> Decision:
    """Return the decision. GPUs that are not managed are free for everybody."""
    managed = {gpu.usage.index for gpu in snapshot.gpus if not gpu.unmanaged}
    found, unknown = _resolve(asked, snapshot.gpus)
    wanted = tuple(sorted(found & managed))
    if starter.exempt:
        return Decision(gpus=wanted)
    own = {
        gpu
        for record in snapshot.reservations
        if record.ended_ms is None and starter.is_own(record)
        for gpu in record.gpus
    }
    divided = {card_of(gpu.usage.index) for gpu in snapshot.gpus}
    target = (own if starter.run_gpus is None else set(starter.run_gpus)) - divided
    left = _opened_by_files(target, snapshot.gpus) if asked.devices else target
    if asked.narrow and not asked.every and left and _asks_for_all(asked, snapshot.gpus):
        only = None if found == left else tuple(sorted(left))
        return Decision(gpus=tuple(sorted(left)), only=only)
    if unknown:
        return Decision(
            gpus=wanted,
            reason=f"it asks for {', '.join(unknown[:MOST_SHOWN])}, which canhazgpu does not know",
            remedy="`canhazgpu status` lists the GPUs",
        )
    missing = [gpu for gpu in snapshot.gpus if gpu.usage.index in set(wanted) - own]
    if not missing:
        return Decision(gpus=wanted)
    return _refused(wanted, missing, starter, sorted(target))


def _resolve(asked: Asked, gpus: Sequence[GpuState]) -> tuple[set[int], list[str]]:
    """Return the indices of the GPUs that are asked for, and the names that no GPU has.

    Of a GPU that is divided into MIG instances, these are the instances.
    """
    divided = {card_of(gpu.usage.index) for gpu in gpus}
    everything = {gpu.usage.index for gpu in gpus} - divided
    nvidia = {gpu.usage.index for gpu in gpus if gpu.usage.vendor == NVIDIA}  # The runtime adds no others.
    nvidia -= divided
    found, unknown = (set(everything) if asked.every else set()), []
    for name in asked.names:
        meant = nvidia if name == ALL else _named(name, gpus)
        found |= meant
        unknown += [] if meant or name == ALL else [name]
    by_file = {gpu.usage.minor: gpu.usage.index for gpu in gpus if not is_instance(gpu.usage.index)}
    for number in asked.devices:
        if number in by_file:
            parts = _with_parts(
                {by_file[number]}, gpus
            )  # An instance needs the device file of its GPU as well.
            found |= set() if parts & found else parts
        else:
            unknown.append(f"/dev/nvidia{number}")
    return found, unknown


def _named(name: str, gpus: Iterable[GpuState]) -> set[int]:
    """Return the GPU with an index or a UUID, or the MIG instance: `0`, `0:1`, `GPU-…`, `MIG-…`."""
    gpus = list(gpus)
    if (instance := read_instance(name)) is not None:
        return {gpu.usage.index for gpu in gpus if gpu.usage.index == instance}
    if name.isascii() and name.isdigit():
        return _with_parts({gpu.usage.index for gpu in gpus if spell_gpu(gpu.usage.index) == name}, gpus)
    lowered = name.lower()
    if len(lowered) < SHORTEST_UUID:
        return set()
    return _with_parts({gpu.usage.index for gpu in gpus if gpu.usage.uuid.lower().startswith(lowered)}, gpus)


def _with_parts(found: set[int], gpus: Iterable[GpuState]) -> set[int]:
    """Return GPUs, and the MIG instances instead of those that are divided."""
    parts = {gpu.usage.index for gpu in gpus if card_of(gpu.usage.index) in found}
    return (found - {card_of(part) for part in parts}) | parts


def _opened_by_files(target: set[int], gpus: Iterable[GpuState]) -> set[int]:
    """Return which of these GPUs a container can have by device files: that of a GPU opens all instances."""
    incomplete = {card_of(gpu.usage.index) for gpu in gpus if gpu.usage.index not in target}
    return {index for index in target if not is_instance(index) or card_of(index) not in incomplete}


def _asks_for_all(asked: Asked, gpus: Sequence[GpuState]) -> bool:
    """Return whether it asks for all GPUs, by that word or, as with CDI, by all of their device files."""
    files = {gpu.usage.minor for gpu in gpus if gpu.usage.minor is not None}
    return ALL in asked.names or (not asked.names and len(files) > 1 and files <= set(asked.devices))


def _refused(
    wanted: tuple[int, ...], missing: Sequence[GpuState], starter: Starter, target: Sequence[int]
) -> Decision:
    listed = "; ".join(_described(gpu) for gpu in missing[:MOST_SHOWN])
    if len(missing) > MOST_SHOWN:
        listed += f"; and {len(missing) - MOST_SHOWN} more"
    if starter.user is None:
        reason = f"nothing proves that a holder started it ({listed})"
        return Decision(gpus=wanted, reason=reason, remedy=RUN_DOCKER)
    remedy = RUN_DOCKER
    if target:
        numbers = spell_ranges(target)
        remedy = f"{starter.user} has GPU {numbers}: ask for {'it' if len(target) == 1 else 'these'} only"
    return Decision(gpus=wanted, reason=f"{starter.user} has not reserved its GPUs ({listed})", remedy=remedy)


def _described(gpu: GpuState) -> str:
    holder = f"reserved by {gpu.reservation.user}" if gpu.reservation else "not reserved"
    return f"GPU {spell_gpu(gpu.usage.index)}: {holder}"
