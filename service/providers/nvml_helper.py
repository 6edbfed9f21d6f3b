"""The helper process that calls NVML. It may hang or crash; its parent replaces it.

Each request is a line of JSON with the cards to leave out. The helper writes the card it is working on and
each reading to a file as lines of JSON. When it is done, it prints a line that says whether the readings are
the same as before. It imports only the standard library, `pynvml` and the module for MIG, and exits when its
input is closed.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from canhazgpu.service.providers.mig import instances

MEBIBYTE = 1024 * 1024
ATTEMPTS = 4  # The list may grow between asking for its size and for itself.
INVALID_ARGUMENT, NOT_SUPPORTED, INSUFFICIENT_SIZE, FUNCTION_NOT_FOUND, VERSION_MISMATCH = 2, 3, 7, 13, 25
# The driver lacks this function, this version of it, or this kind of list.
MISSING = frozenset({INVALID_ARGUMENT, NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH})
PID_MAX = "/proc/sys/kernel/pid_max"
ABOUT = 0.05  # Maximum difference between a card's memory and the host's to treat them as the same.
LISTS = {
    "compute": "nvmlDeviceGetComputeRunningProcesses",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses",
    "mps": "nvmlDeviceGetMPSComputeRunningProcesses",
}
Note = Callable[[bytes], None]


class Nvml:
    """The initialised library."""

    def __init__(self) -> None:
        """Load and initialise it; raises pynvml.NVMLError."""
        import pynvml  # noqa: PLC0415 - its absence is an answer too

        if not hasattr(pynvml, "nvmlMemory_v2"):
            raise ImportError("the module pynvml is not the one of nvidia-ml-py")
        self.lib: Any = pynvml
        pynvml.nvmlInit()
        self._too_old = getattr(pynvml, "NVMLLibraryMismatchError", ())  # Of the driver; no NVMLError.
        # By index, which is a card's until NVML begins again: its name, what is noted when it is turned to
        # once its UUID is known, and what was said of it last.
        self._names: dict[int, str] = {}
        self._minors: dict[int, int] = {}
        self._turned: dict[int, bytes] = {}
        self._said: dict[int, tuple[dict[str, Any], bytes]] = {}
        self._count = 0
        self._hosts: dict[int, bool] = {}
        self.last_pid = _last_pid()

    def read(self, skip: list[str | int], note: Note) -> bool:
        """Write a reading of every GPU; a failing one does not hide others.

        Return whether all readings are the same as those of the last request.
        """
        count: int = self.lib.nvmlDeviceGetCount()
        same, self._count = count == self._count, count
        note(b'{"count":%d}' % count)
        for index in range(count):
            note(self._turned.get(index, b'{"at":%d}' % index))
            gpu: dict[str, Any] = {"index": index}
            if index in skip:
                gpu["skipped"] = True
            else:
                self._gpu(gpu, skip, note)
            before, text = self._said.get(index, ({}, b""))
            if gpu != before:  # Encoding costs more than anything else here.
                text = b'{"gpu":%b}' % json.dumps(gpu).encode()
                self._said[index] = gpu, text
                same = False
            note(text)
        return same

    def _gpu(self, gpu: dict[str, Any], skip: list[str | int], note: Note) -> None:
        """Read one GPU. Values that decide about its state must be readable or not exist; others may fail."""
        index = gpu["index"]
        try:
            handle = self.lib.nvmlDeviceGetHandleByIndex(index)
            if index not in self._names:
                name = self._shown(lambda: _text(lambda: self.lib.nvmlDeviceGetName(handle)))
                self._names |= {index: name} if name else {}
            if index in self._names:
                gpu["name"] = self._names[index]
            gpu |= self._device(index, handle)
            gpu |= self._identity(handle)
            if index not in self._turned:
                self._turned[index] = json.dumps({"at": index, "uuid": gpu["uuid"]}).encode()
                note(self._turned[index])
            if gpu["uuid"] in skip:
                gpu["skipped"] = True
                return
            divided = instances.is_divided(self, handle)
            if divided:
                gpu |= instances.read(self, handle)
            else:
                gpu |= self.memory(handle)
                rows, reported = self.rows(handle)
                gpu |= self.merged(rows, reported=reported)
                gpu["utilization_percent"] = self._shown(
                    lambda: self.lib.nvmlDeviceGetUtilizationRates(handle).gpu
                )
                gpu |= {"divided": divided, "mig": []}
            gpu["temperature_c"] = self._shown(lambda: self._temperature(handle))
        except self.lib.NVMLError as error:
            gpu["error"] = error.value
        except ValueError as error:
            gpu["unbelievable"] = str(error)

    def _identity(self, handle: Any) -> dict[str, str]:
        try:
            uuid = _text(lambda: self.lib.nvmlDeviceGetUUID(handle))
        except self.lib.NVMLError as error:
            if error.value != NOT_SUPPORTED:
                raise
            uuid = ""
        if not uuid:
            raise ValueError("the driver reports no UUID for it")
        return {"uuid": uuid}

    def _device(self, index: int, handle: Any) -> dict[str, int]:
        """Return the number of the device file, if the driver tells it."""
        if index not in self._minors:
            minor = self._shown(lambda: int(self.lib.nvmlDeviceGetMinorNumber(handle)))
            if minor is None:
                return {}
            self._minors[index] = minor
        return {"minor": self._minors[index]}

    def _shown(self, ask: Callable[[], Any]) -> Any:
        """Return a value that is only displayed, or None."""
        try:
            return ask()
        except (self.lib.NVMLError, AttributeError, ValueError):
            return None

    def _temperature(self, handle: Any) -> int:
        """Return the degrees Celsius; drivers before 560 and releases of pynvml from 14 know one way each."""
        sensor = self.lib.NVML_TEMPERATURE_GPU
        try:
            return int(self.lib.nvmlDeviceGetTemperature(handle, sensor))
        except (self.lib.NVMLError, AttributeError) as error:
            if getattr(error, "value", FUNCTION_NOT_FOUND) != FUNCTION_NOT_FOUND:
                raise
        return int(self.lib.nvmlDeviceGetTemperatureV(handle, sensor))

    def memory(self, handle: Any) -> dict[str, int | None]:
        """Return total and used memory, or None if the card has no memory of its own to report."""
        memory = self._memory_info(handle)
        if memory is None or not memory.total or self._is_hosts(handle, memory.total):
            return {"memory_total_mb": None, "memory_used_mb": None}
        return {
            "memory_total_mb": memory.total // MEBIBYTE,
            "memory_used_mb": memory.used // MEBIBYTE,
        }

    def _memory_info(self, handle: Any) -> Any:
        """Return the memory info of version 2, or else version 1; None if it is not supported."""
        try:
            return self.lib.nvmlDeviceGetMemoryInfo(handle, version=self.lib.nvmlMemory_v2)
        except self.lib.NVMLError as second:
            try:
                return self.lib.nvmlDeviceGetMemoryInfo(handle)
            except self.lib.NVMLError as first:
                if first.value != NOT_SUPPORTED:
                    raise
                if second.value not in MISSING:
                    raise second from first
        return None

    def _is_hosts(self, handle: Any, total: int) -> bool:
        """Return whether this is the host's memory, which some drivers report for an integrated GPU.

        Such a GPU has no BAR1 memory. The result is cached for each amount of memory.
        """
        if total not in self._hosts:
            host = _host_memory()
            self._hosts[total] = abs(total - host) <= ABOUT * host
        return self._hosts[total] and not self._shown(
            lambda: self.lib.nvmlDeviceGetBAR1MemoryInfo(handle).bar1Total
        )

    def rows(self, handle: Any) -> tuple[list[tuple[str, Any]], bool]:
        """Return the process lists with their kinds, and whether the driver reports them at all."""
        found, reported = [], True
        for kind, function in LISTS.items():
            rows = self._list(function, handle)
            reported = reported and (rows is not None or kind != "compute")
            found += [(kind, row) for row in rows or ()]
        return found, reported

    def merged(self, rows: Iterable[tuple[str, Any]], *, reported: bool) -> dict[str, Any]:
        """Return the processes, each once, and whether the driver reports them at all."""
        merged: dict[int, dict[str, Any]] = {}
        for kind, row in rows:
            self._check(row.pid)
            one = merged.setdefault(row.pid, {"pid": row.pid, "memory_mb": None, "kinds": []})
            one["kinds"].append(kind)
            if row.usedGpuMemory:  # None and 0 both mean unknown.
                one["memory_mb"] = max(one["memory_mb"] or 0, -(-row.usedGpuMemory // MEBIBYTE))
        return {"processes": list(merged.values()), "processes_reported": reported}

    def _list(self, function: str, handle: Any) -> list[Any] | None:
        """Return one process list, or None if this GPU does not have it."""
        for attempt in range(ATTEMPTS):
            try:
                rows: list[Any] = getattr(self.lib, function)(handle)
            except self._too_old as error:
                if "MPS" not in function:
                    raise self.lib.NVMLError(FUNCTION_NOT_FOUND) from error
                return None
            except self.lib.NVMLError as error:
                if error.value == NOT_SUPPORTED or (error.value in MISSING and "MPS" in function):
                    return None
                if error.value != INSUFFICIENT_SIZE or attempt == ATTEMPTS - 1:
                    raise
            else:
                return rows
        return None

    def _check(self, pid: int) -> None:
        if pid > self.last_pid:  # It can be raised while we run.
            self.last_pid = _last_pid()
        if not 0 < pid <= self.last_pid:
            raise ValueError(f"the driver's process list is invalid (PID {pid})")

    def text(self, ask: Callable[[], str]) -> str:
        """Return text from the driver."""
        return _text(ask)


def _text(ask: Callable[[], str]) -> str:
    """Return text from the driver; invalid UTF-8 is escaped."""
    try:
        return ask()
    except UnicodeDecodeError as error:
        return bytes(error.object).decode("utf-8", "backslashreplace")


def _host_memory() -> int:
    """Return the memory of the host in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _last_pid() -> int:
    with contextlib.suppress(OSError, ValueError), open(PID_MAX, encoding="ascii") as file:  # noqa: PTH123
        return int(file.readline())
    return 4194304


def _answer(nvml: Nvml | None, skip: list[str | int], note: Note) -> tuple[Nvml | None, dict[str, Any]]:
    try:
        nvml = nvml or Nvml()
        return nvml, {"same": nvml.read(skip, note)}
    except ImportError as error:
        return None, {"import": str(error)}
    except Exception as error:  # noqa: BLE001 - NVMLError has no base that is known before the import
        return None, {"error": getattr(error, "value", 0), "text": f"{type(error).__name__}: {error}"[:200]}


def main() -> None:
    """Answer each input line until the input ends; the first argument is the file for readings."""
    notes = int(sys.argv[1])
    nvml: Nvml | None = None
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # Output of the driver's library must not be taken for an answer.

    def note(what: bytes) -> None:
        os.write(notes, what + b"\n")

    for line in sys.stdin:
        nvml, answer = _answer(nvml, json.loads(line), note)
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
