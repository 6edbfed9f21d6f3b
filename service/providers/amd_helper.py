"""The helper process that calls AMD SMI. It may hang or crash; its parent replaces it.

It speaks the language of `nvml_helper`: requests and answers are lines of JSON, and the card it is working on
and each reading go to a file. It imports only the standard library and `amdsmi`.
"""

import contextlib
import ctypes
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

NOT_SUPPORTED = {2, 3}
MOST_PROCESSES = 1024  # As in the package; of more, the library returns an error.
MEBIBYTE = 1024 * 1024
PID_MAX = "/proc/sys/kernel/pid_max"
UNIQUE = re.compile(r"(?:GPU-|0x)?([0-9a-f]{16})", re.IGNORECASE)
NO_ID = {"0" * 16, "f" * 16}  # What the library says for a GPU without a unique id.
# The driver and the firmware keep memory that the library counts as used, such as 300 MiB on an MI300X.
MOST_OWN_MB = 512
MILLIDEGREES = 1000  # Some releases do not divide; no GPU is that warm.
Note = Callable[[bytes], None]
Value = Callable[[], Any]


class Amd:
    """The initialised library. It keeps the list of GPUs from its initialisation."""

    def __init__(self) -> None:
        """Load and initialise it. Raises ImportError, and the exceptions of amdsmi."""
        try:
            import amdsmi  # noqa: PLC0415 - its absence is an answer too
        except (AttributeError, KeyError, OSError, NameError) as error:  # As it fails without its library.
            raise ImportError(str(error)) from error
        self.lib: Any = amdsmi
        amdsmi.amdsmi_init()
        self._handles: list[Any] = amdsmi.amdsmi_get_processor_handles()
        self._named: dict[int, dict[str, Any]] = {}
        self._own_mb: dict[int, int] = {}
        self._said: dict[int, dict[str, Any]] = {}
        self._turned: dict[int, bytes] = {}
        self._count = -1
        self._last_pid = _last_pid()

    def read(self, skip: list[str | int], note: Note) -> bool:
        """Write a reading of every GPU; return whether all are the same as those of the last request."""
        count = len(self._handles)
        same, self._count = count == self._count, count
        note(b'{"count":%d}' % count)
        faults = self._identify(skip, note)
        uuids = self._uuids()
        for index, handle in enumerate(self._handles):
            gpu: dict[str, Any] = {"index": index, "vendor": "amd"}
            if index in skip:
                gpu["skipped"] = True
            else:
                note(self._turned.get(index, b'{"at":%d}' % index))
                self._gpu(gpu, handle, uuids, faults, skip, note)
            if gpu != self._said.get(index):
                self._said[index], same = gpu, False
            note(json.dumps({"gpu": gpu}).encode())
        return same

    def _identify(self, skip: list[str | int], note: Note) -> dict[int, BaseException]:
        """Ask once what each GPU is; return the errors of those that did not say it."""
        faults: dict[int, BaseException] = {}
        for index, handle in enumerate(self._handles):
            if index in self._named or index in skip:
                continue
            note(b'{"at":%d}' % index)
            try:
                self._named[index] = self._facts(index, handle)
            except (self.lib.AmdSmiException, ValueError) as error:
                faults[index] = error
        return faults

    def _facts(self, index: int, handle: Any) -> dict[str, Any]:
        bdf = str(self.lib.amdsmi_get_gpu_device_bdf(handle))
        asic = self._shown(lambda: self.lib.amdsmi_get_gpu_asic_info(handle)) or {}
        order = self._shown(lambda: self.lib.amdsmi_get_gpu_enumeration_info(handle)) or {}
        ids = (
            UNIQUE.fullmatch(str(text).strip()) for text in (order.get("hip_uuid"), asic.get("asic_serial"))
        )
        found = next((one[1].lower() for one in ids if one and one[1].lower() not in NO_ID), "")
        return {
            "unique": found,
            "bdf": bdf,
            "name": _text(asic.get("market_name")) or "AMD GPU",
            "ordinal": _number(order.get("hip_id"), index),
        }

    def _uuids(self) -> dict[int, str]:
        """Return the names by which GPUs are known: as ROCm names them, or else by their PCI address.

        The partitions of a GPU may have the same unique id.
        """
        times = Counter(one["unique"] for one in self._named.values())
        return {
            index: f"GPU-{one['unique']}"
            if one["unique"] and times[one["unique"]] == 1
            else "PCI-" + one["bdf"].replace(":", "-")
            for index, one in self._named.items()
        }

    def _gpu(  # noqa: PLR0913, PLR0917 - what is known of it, and where to note it
        self,
        gpu: dict[str, Any],
        handle: Any,
        uuids: dict[int, str],
        faults: dict[int, BaseException],
        skip: list[str | int],
        note: Note,
    ) -> None:
        index = gpu["index"]
        try:
            if index in faults:
                raise faults[index]
            gpu |= {name: self._named[index][name] for name in ("name", "ordinal")} | {"uuid": uuids[index]}
            turned = json.dumps({"at": index, "uuid": gpu["uuid"]}).encode()
            if self._turned.get(index) != turned:
                self._turned[index] = turned
                note(turned)
            if gpu["uuid"] in skip:
                gpu["skipped"] = True
                return
            memory = self._memory(handle)
            gpu |= self._processes(handle)
            gpu |= self._without_own(index, memory, busy=bool(gpu["processes"]))
            gpu["utilization_percent"] = self._activity(handle)
            gpu["temperature_c"] = self._temperature(handle)
            gpu["mig"] = []
        except self.lib.AmdSmiException as error:
            gpu["error"] = getattr(error, "err_code", None) or 0xFFFFFFFF
        except ValueError as error:
            gpu["unbelievable"] = str(error)

    def _shown(self, ask: Value) -> Any:
        """Return a value that the library may lack, or None."""
        try:
            return ask()
        except (self.lib.AmdSmiException, AttributeError, ValueError, KeyError):
            return None

    def _supported(self, ask: Value) -> Any:
        """Return a value that decides about the state of a GPU, or None if the GPU does not have it."""
        try:
            return ask()
        except self.lib.AmdSmiException as error:
            if getattr(error, "err_code", None) not in NOT_SUPPORTED:
                raise
            return None

    def _memory(self, handle: Any) -> tuple[int | None, int | None]:
        found = self._supported(lambda: self.lib.amdsmi_get_gpu_vram_usage(handle)) or {}
        return _number(found.get("vram_total")), _number(found.get("vram_used"))

    def _without_own(
        self, index: int, memory: tuple[int | None, int | None], *, busy: bool
    ) -> dict[str, Any]:
        """Leave out what the driver itself uses: the least that was used while no process was listed."""
        total, used = memory
        if not total or used is None:
            return {"memory_total_mb": None, "memory_used_mb": None}
        if not busy:
            self._own_mb[index] = min(self._own_mb.get(index, MOST_OWN_MB), used)
        return {"memory_total_mb": total, "memory_used_mb": max(0, used - self._own_mb.get(index, 0))}

    def _processes(self, handle: Any) -> dict[str, Any]:
        """Return the processes, and whether the driver reports them at all."""
        rows = self._supported(partial(self._list, handle))
        found = [self._process(row) for row in rows or ()]
        return {"processes": [one for one in found if one], "processes_reported": rows is not None}

    def _list(self, handle: Any) -> list[dict[str, Any]]:
        """Return the list; it is read without names if one is no UTF-8, at which the package fails.

        Any user can name a process so, and must not hide it.
        """
        with contextlib.suppress(UnicodeDecodeError):
            rows: list[dict[str, Any]] = self.lib.amdsmi_get_gpu_process_list(handle)
            return rows
        wrapper = self.lib.amdsmi_wrapper
        count = ctypes.c_uint32(MOST_PROCESSES)
        listed = (wrapper.amdsmi_proc_info_t * MOST_PROCESSES)()
        code = wrapper.amdsmi_get_gpu_process_list(handle, ctypes.byref(count), listed)
        if code:
            raise self.lib.AmdSmiLibraryException(code)
        return [
            {"pid": one.pid, "mem": one.mem, "memory_usage": {"vram_mem": one.memory_usage.vram_mem}}
            for one in listed[: count.value]
        ]

    def _process(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return a process; None if it has no memory on this GPU: the library lists it for others too."""
        pid = _number(row.get("pid"), 0) or 0
        self._check(pid)
        video, every = _number(row.get("memory_usage", {}).get("vram_mem")), _number(row.get("mem"))
        if video == 0 and not every:
            return None
        size = video or every
        return {"pid": pid, "memory_mb": -(-size // MEBIBYTE) if size else None, "kinds": ["compute"]}

    def _check(self, pid: int) -> None:
        if pid > self._last_pid:  # It can be raised while we run.
            self._last_pid = _last_pid()
        if not 0 < pid <= self._last_pid:
            raise ValueError(f"the driver's process list is invalid (PID {pid})")

    def _activity(self, handle: Any) -> int | None:
        found = self._shown(lambda: self.lib.amdsmi_get_gpu_activity(handle)) or {}
        return _number(found.get("gfx_activity"))

    def _temperature(self, handle: Any) -> int | None:
        """Return degrees Celsius. Accelerators have no sensor at the edge, others none at the hot spot."""
        now = self.lib.AmdSmiTemperatureMetric.CURRENT
        kinds = self.lib.AmdSmiTemperatureType
        for kind in (kinds.EDGE, kinds.HOTSPOT):
            value = _number(self._shown(partial(self.lib.amdsmi_get_temp_metric, handle, kind, now)))
            if value:
                return value // MILLIDEGREES if value >= MILLIDEGREES else value
        return None


def _number(value: Any, default: int | None = None) -> int | None:
    """Return a number; the library says `N/A` for what it does not know."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _text(value: Any) -> str:
    return "" if value in {None, "N/A"} else str(value).strip()


def _last_pid() -> int:
    with contextlib.suppress(OSError, ValueError), open(PID_MAX, encoding="ascii") as file:  # noqa: PTH123
        return int(file.readline())
    return 4194304


def _answer(amd: Amd | None, skip: list[str | int], note: Note) -> tuple[Amd | None, dict[str, Any]]:
    try:
        amd = amd or Amd()
        return amd, {"same": amd.read(skip, note)}
    except ImportError as error:
        return None, {"import": str(error)[:200]}
    except Exception as error:  # noqa: BLE001 - the library's exceptions have no base that is known before
        code = getattr(error, "err_code", None)
        return None, {"error": code or 0, "text": f"{type(error).__name__}: {error}"[:200]}


def main() -> None:
    """Answer each input line until the input ends; the first argument is the file for readings."""
    notes = int(sys.argv[1])
    amd: Amd | None = None
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # Output of the library must not be taken for an answer.

    def note(what: bytes) -> None:
        os.write(notes, what + b"\n")

    for line in sys.stdin:
        amd, answer = _answer(amd, json.loads(line), note)
        output.write(json.dumps(answer) + "\n")
        output.flush()


if __name__ == "__main__":
    main()
