"""Reads a card that is divided into MIG instances, in the helper process: each has its memory and processes.

NVML lists the processes of a divided card with the ids of their instances, if the caller may see all of it.
Otherwise each instance is asked. It imports only the standard library.
"""

import contextlib
import re
from collections.abc import Iterable
from typing import Any, Protocol

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, FUNCTION_NOT_FOUND, VERSION_MISMATCH = (
    2,
    3,
    4,
    6,
    13,
    25,
)
WITHOUT_MIG = frozenset({INVALID_ARGUMENT, NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH})
NO_INSTANCE = frozenset({INVALID_ARGUMENT, NOT_FOUND})  # There is none at this place: gaps are normal.
NAMED = re.compile(r"MIG (\d+(?:c\.\d+)?g\.[0-9a-z.+-]+)$")
EIGHTHS = 8  # Profiles have so many parts of a card's memory.
GIGABYTE = 1024
Row = tuple[str, Any]  # The kind of a process, and NVML's facts about it.
Ids = tuple[int, int]  # Of the GPU instance and the compute instance.


class Library(Protocol):
    """What the helper offers."""

    lib: Any

    def memory(self, handle: Any) -> dict[str, int | None]:
        """Return total and used memory."""

    def rows(self, handle: Any) -> tuple[list[Row], bool]:
        """Return the process lists, and whether the driver reports them at all."""

    def merged(self, rows: Iterable[Row], *, reported: bool) -> dict[str, Any]:
        """Return the processes, each once."""

    def text(self, ask: Any) -> str:
        """Return text from the driver."""


def is_divided(nvml: Library, handle: Any) -> bool | None:
    """Return whether MIG is on; None if the driver fails to say it."""
    try:
        return bool(nvml.lib.nvmlDeviceGetMigMode(handle)[0])
    except nvml.lib.NVMLError as error:
        return False if error.value in WITHOUT_MIG else None


def read(nvml: Library, card: Any) -> dict[str, Any]:
    """Return the reading of a divided card, with those of its instances. Raises NVMLError and ValueError.

    The card has no memory and no processes but those of its instances.
    """
    total_mb = _total(nvml, card)
    handles, unreadable = _handles(nvml, card)
    found: list[dict[str, Any]] = []
    for number, handle in handles:
        try:
            found.append(_facts(nvml, number, handle, total_mb))
        except nvml.lib.NVMLError as error:
            unreadable[number] = error.value
    _add_memory(nvml, found, dict(handles))
    _add_processes(nvml, card, found, dict(handles))
    gpu: dict[str, Any] = {
        "memory_total_mb": total_mb,
        "memory_used_mb": None,
        "processes": [],
        "processes_reported": True,
    }
    gpu |= {"utilization_percent": None, "divided": True, "mig": found}
    if unreadable:
        number, code = next(iter(unreadable.items()))
        gpu |= {"divided": None, "instance_error": [number, code]}
    return gpu


def _total(nvml: Library, card: Any) -> int | None:
    """Return the memory of a card, which only a privileged caller may see while MIG is on."""
    try:
        return nvml.memory(card)["memory_total_mb"]
    except nvml.lib.NVMLError as error:
        if error.value not in {NO_PERMISSION, NOT_SUPPORTED}:
            raise
    return None


def _handles(nvml: Library, card: Any) -> tuple[list[tuple[int, Any]], dict[int, int]]:
    """Return the handles of the instances by number, and the errors of those that have none."""
    found: list[tuple[int, Any]] = []
    failed: dict[int, int] = {}
    for number in range(nvml.lib.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            found.append((number, nvml.lib.nvmlDeviceGetMigDeviceHandleByIndex(card, number)))
        except nvml.lib.NVMLError as error:
            if error.value not in NO_INSTANCE:
                failed[number] = error.value
    return found, failed


def _facts(nvml: Library, number: int, handle: Any, total_mb: int | None) -> dict[str, Any]:
    name = ""
    with contextlib.suppress(nvml.lib.NVMLError):
        name = nvml.text(lambda: nvml.lib.nvmlDeviceGetName(handle))
    named = NAMED.search(name)
    return {
        "number": number,
        "uuid": nvml.text(lambda: nvml.lib.nvmlDeviceGetUUID(handle)),
        "name": name,
        "gpu_instance": nvml.lib.nvmlDeviceGetGpuInstanceId(handle),
        "compute_instance": nvml.lib.nvmlDeviceGetComputeInstanceId(handle),
        "profile": named[1] if named else _profile(nvml, handle, total_mb),
    }


def _profile(nvml: Library, handle: Any, total_mb: int | None) -> str | None:
    """Return the name of a profile by its size, if the name of the instance does not end with it."""
    try:
        size = nvml.lib.nvmlDeviceGetAttributes(handle)
    except (nvml.lib.NVMLError, AttributeError):
        return None
    if not total_mb or not size.gpuInstanceSliceCount:
        return None
    eighths = -(-size.memorySizeMB * EIGHTHS // total_mb)
    gigabytes = round(eighths / EIGHTHS * -(-total_mb // GIGABYTE))
    compute, whole = size.computeInstanceSliceCount, size.gpuInstanceSliceCount
    return f"{whole}g.{gigabytes}gb" if compute == whole else f"{compute}c.{whole}g.{gigabytes}gb"


def _add_memory(nvml: Library, found: list[dict[str, Any]], handles: dict[int, Any]) -> None:
    """Add the memory. Compute instances of one GPU instance share it: their use is judged by processes."""
    sharing = [one["gpu_instance"] for one in found]
    for one in found:
        try:
            one.update(nvml.memory(handles[one["number"]]))
        except nvml.lib.NVMLError as error:
            one.update(memory_total_mb=None, memory_used_mb=None, error=error.value)
        if sharing.count(one["gpu_instance"]) > 1:
            one["memory_used_mb"] = None


def _add_processes(nvml: Library, card: Any, found: list[dict[str, Any]], handles: dict[int, Any]) -> None:
    by_ids = {_ids(one): one for one in found}
    try:
        rows, reported = nvml.rows(card)
    except nvml.lib.NVMLError:
        rows, reported = [], False
    if reported and all(_place(row) in by_ids for _, row in rows):
        for ids, one in by_ids.items():
            own = [(kind, row) for kind, row in rows if _place(row) == ids]
            one.update(nvml.merged(own, reported=True))
        return
    for one in found:
        try:
            own, is_reported = nvml.rows(handles[one["number"]])
            one.update(nvml.merged(own, reported=is_reported))
        except nvml.lib.NVMLError as error:
            one.update(processes=[], processes_reported=False)
            one.setdefault("error", error.value)
    _doubt(rows, found)


def _doubt(rows: Iterable[Row], found: list[dict[str, Any]]) -> None:
    """Make all instances unknown if the card has a process that none of them has."""
    placed = {process["pid"] for one in found for process in one["processes"]}
    lost = sorted({row.pid for _, row in rows} - placed)
    for one in found if lost else ():
        one["unbelievable"] = f"the driver does not say on which MIG instance process {lost[0]} runs"


def _ids(one: dict[str, Any]) -> Ids:
    return one["gpu_instance"], one["compute_instance"]


def _place(row: Any) -> Ids:
    return row.gpuInstanceId, row.computeInstanceId
