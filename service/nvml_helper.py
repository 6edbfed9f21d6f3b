"""The process that talks to NVML: one JSON line in, one out. It may hang or die; its parent replaces it.

It imports the standard library and `pynvml` only, and ends when its input is closed.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

MEBIBYTE = 1024 * 1024
ATTEMPTS = 4  # The list may grow between asking for its size and for itself.
NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE = 3, 6, 7
WHOLE_GPU = 0xFFFFFFFF
LISTS = {
    "compute": "nvmlDeviceGetComputeRunningProcesses",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses",
    "mps": "nvmlDeviceGetMPSComputeRunningProcesses",
}


class Nvml:
    """The library, initialised once."""

    def __init__(self) -> None:
        """Load and initialise it; raises pynvml.NVMLError."""
        import pynvml  # noqa: PLC0415 - its absence is an answer too

        if not hasattr(pynvml, "nvmlMemory_v2"):
            raise ImportError("the module pynvml is not the one of nvidia-ml-py")
        self.lib: Any = pynvml
        pynvml.nvmlInit()
        self.last_pid = int(_first_line("/proc/sys/kernel/pid_max") or 4194304)

    def read(self) -> list[dict[str, Any]]:
        """Return every GPU; one that fails hides no other."""
        return [self._gpu(index) for index in range(self.lib.nvmlDeviceGetCount())]

    def _gpu(self, index: int) -> dict[str, Any]:
        gpu: dict[str, Any] = {"index": index}
        try:
            handle = self.lib.nvmlDeviceGetHandleByIndex(index)
            gpu["uuid"] = _text(self.lib.nvmlDeviceGetUUID(handle))
            gpu["name"] = _text(self.lib.nvmlDeviceGetName(handle))
            gpu |= self._memory(handle)
            gpu["utilization_percent"] = self._value(
                lambda: self.lib.nvmlDeviceGetUtilizationRates(handle).gpu
            )
            gpu["mig"] = list(self._mig(handle))
            gpu["processes"] = self._processes(handle)
        except self.lib.NVMLError as error:
            gpu["error"] = error.value
        except ValueError as error:
            gpu["unbelievable"] = str(error)
        return gpu

    def _value(self, ask: Callable[[], Any]) -> Any:
        """Return a reading, None where this GPU does not have it."""
        try:
            return ask()
        except self.lib.NVMLError as error:
            if error.value == NOT_SUPPORTED:
                return None
            raise

    def _memory(self, handle: Any) -> dict[str, int | None]:
        try:
            memory = self.lib.nvmlDeviceGetMemoryInfo(handle, version=self.lib.nvmlMemory_v2)
        except (self.lib.NVMLError, AttributeError):
            memory = self._value(lambda: self.lib.nvmlDeviceGetMemoryInfo(handle))
        if memory is None:
            return {"memory_total_mb": None, "memory_used_mb": None}
        return {
            "memory_total_mb": memory.total // MEBIBYTE,
            "memory_used_mb": memory.used // MEBIBYTE,
        }

    def _processes(self, handle: Any) -> list[dict[str, Any]]:
        merged: dict[int, dict[str, Any]] = {}
        for kind, function in LISTS.items():
            for row in self._list(function, handle):
                self._check(row.pid)
                one = merged.setdefault(row.pid, {"pid": row.pid, "memory_mb": None, "kinds": []})
                one["kinds"].append(kind)
                if row.usedGpuMemory:  # None and 0 both mean: not told.
                    one["memory_mb"] = max(one["memory_mb"] or 0, -(-row.usedGpuMemory // MEBIBYTE))
        return list(merged.values())

    def _list(self, function: str, handle: Any) -> list[Any]:
        for attempt in range(ATTEMPTS):
            try:
                rows: list[Any] = getattr(self.lib, function)(handle)
            except self.lib.NVMLError as error:
                if error.value == NOT_SUPPORTED or (kind_missing(error.value) and "MPS" in function):
                    return []
                if error.value != INSUFFICIENT_SIZE or attempt == ATTEMPTS - 1:
                    raise
            else:
                return rows
        return []

    def _check(self, pid: int) -> None:
        if not 0 < pid <= self.last_pid:
            raise ValueError(f"the driver's process list is garbage (PID {pid})")

    def _mig(self, handle: Any) -> Iterator[dict[str, Any]]:
        try:
            enabled = self.lib.nvmlDeviceGetMigMode(handle)[0]
            count = self.lib.nvmlDeviceGetMaxMigDeviceCount(handle) if enabled else 0
        except self.lib.NVMLError:
            return
        for position in range(count):
            with contextlib.suppress(self.lib.NVMLError):  # Gaps between instances are normal.
                mig = self.lib.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
                yield {
                    "uuid": _text(self.lib.nvmlDeviceGetUUID(mig)),
                    "gpu_instance": self.lib.nvmlDeviceGetGpuInstanceId(mig),
                    "compute_instance": self.lib.nvmlDeviceGetComputeInstanceId(mig),
                    **self._memory(mig),
                }


def kind_missing(code: int) -> bool:
    """Tell whether `code` says that the driver does not have this function or this kind of list."""
    return code in (2, 13)  # INVALID_ARGUMENT, FUNCTION_NOT_FOUND


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:  # noqa: PTH123
        return file.readline().strip()
    return ""


def _answer(nvml: Nvml | None) -> tuple[Nvml | None, dict[str, Any]]:
    try:
        nvml = nvml or Nvml()
        return nvml, {"gpus": nvml.read()}
    except ImportError as error:
        return None, {"import": str(error)}
    except Exception as error:  # noqa: BLE001 - NVMLError has no base that is known before the import
        return None, {"error": getattr(error, "value", 0), "text": f"{type(error).__name__}: {error}"[:200]}


def main() -> None:
    """Answer each line of input until there is no more."""
    nvml: Nvml | None = None
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # What the driver's library prints is no answer.
    for _ in sys.stdin:
        nvml, answer = _answer(nvml)
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
