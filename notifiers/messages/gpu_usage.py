"""Describes a violation as a use of a GPU: its processes, memory, start and end."""

from canhazgpu.events.gpu import Container, ProcessUse
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.events.violations import Violation
from canhazgpu.notifiers.messages.content import Process, Use
from canhazgpu.notifiers.messages.phrases import length, moment

SHOWN = 8  # Processes of one GPU.
SHORT_ID = 13  # Twelve characters of a container's id, and the mark that it was cut.
ANY_RUNTIME = "container"  # As the service says where it does not know the runtime.
ENDS = {
    "stopped": "the processes have ended",
    "reserved": "the GPU is reserved now",
    "exempted": "the use was exempted",
    "vanished": "the GPU is gone",
}


def use_of(violation: Violation, *, ended: bool) -> Use:
    """Return the description of a violation that is open, or that has ended."""
    processes = () if ended else violation.processes
    return Use(
        gpu=spell_gpu(violation.gpu),
        model=printable(violation.gpu_name),
        violation=printable(violation.violation),
        since=moment(violation.since),
        memory=_total(violation.peak_memory_mb if ended else violation.memory_mb, violation.processes),
        holder=printable(violation.holder or ""),
        processes=tuple(map(_process, processes[:SHOWN])),
        more=max(0, len(processes) - SHOWN),
        until=moment(violation.closed) if ended else "",
        lasted=length(violation.since, violation.closed) if ended else "",
        end=ENDS.get(violation.reason or "", "it is over") if ended else "",
    )


def _total(memory_mb: int, processes: tuple[ProcessUse, ...]) -> str:
    reported = memory_mb or any(one.memory_mb is not None for one in processes)
    return f"{memory_mb}MB" if reported else ""


def _process(process: ProcessUse) -> Process:
    inside = _container(process.container) if process.container else ""
    memory = "memory unknown" if process.memory_mb is None else f"{process.memory_mb}MB"
    return Process(pid=process.pid, name=printable(process.name), memory=memory, inside=inside)


def _container(held: Container) -> str:
    runtime = "" if held.runtime == ANY_RUNTIME else f"{printable(held.runtime)} "
    return f"{runtime}container {printable(held.id, SHORT_ID)}"
