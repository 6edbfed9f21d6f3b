"""The simulated provider: a TOML file, read again when it changes, defines the GPUs and their processes."""

import os
import tomllib
import uuid
from functools import cache
from pathlib import Path
from typing import Annotated

import anyio
import msgspec

from canhazgpu.events.durations import parse_duration
from canhazgpu.events.gpu import AMD, NVIDIA, GpuReading, ProcessReading, Vendor
from canhazgpu.service.providers import nvml_errors
from canhazgpu.service.providers.provider import DEADLINE, ProviderError, no_answer

NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
Megabytes = Annotated[int, msgspec.Meta(ge=0)]
REMEDY = "fix the file; it is read again when it changes"


class SimulatedProcess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A process. A pid that does not exist needs both `user` and `name`."""

    pid: Annotated[int, msgspec.Meta(ge=0)]
    memory_mb: Megabytes | None = None
    user: str | None = None
    name: str | None = None

    @property
    def exists(self) -> bool:
        """Whether to report it: it is fully simulated, or it exists."""
        return (self.user is not None and self.name is not None) or Path(f"/proc/{self.pid}").exists()


class SimulatedGpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU; `error` is one of NVML's error names, `hang` a duration. `minor` is its index by default.

    `ordinal` is the number by which the vendor's runtime counts it, if that is not its index.
    """

    index: Annotated[int, msgspec.Meta(ge=0, le=1023)]
    minor: Annotated[int, msgspec.Meta(ge=0)] | None = None
    vendor: Vendor = NVIDIA
    ordinal: Annotated[int, msgspec.Meta(ge=0)] | None = None
    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = ""
    memory_total_mb: Megabytes | None = 81559
    memory_used_mb: Megabytes = 0
    utilization_percent: int | None = None
    temperature_c: int | None = None
    error: str | None = None
    hang: str | None = None
    processes: list[SimulatedProcess] = []

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if self.error is not None and self.error.removeprefix("NVML_ERROR_") not in nvml_errors.CODES:
            message = f"error: {self.error[:40]!r} is not the name of an NVML error"
            raise ValueError(message)
        if self.hang is not None:
            parse_duration(self.hang)

    def read(self) -> GpuReading:
        """Return the reading as from NVML."""
        name = (self.error or "").removeprefix("NVML_ERROR_")
        identity = self.uuid or _uuid_of(self.index, self.vendor)
        processes = [process for process in self.processes if process.exists]
        minor = self.index if self.minor is None and self.vendor == NVIDIA else self.minor
        if name and name != "NOT_SUPPORTED":
            text = nvml_errors.sentence(name)
            broken = name in nvml_errors.BROKEN
            return GpuReading(
                index=self.index,
                uuid=identity,
                name=self.name,
                vendor=self.vendor,
                ordinal=self.ordinal,
                minor=minor,
                error=text if broken else None,
                unknown=None if broken else text,
                remedy=nvml_errors.remedy(name),
            )
        used = self.memory_used_mb + sum(process.memory_mb or 0 for process in processes)
        return GpuReading(
            index=self.index,
            uuid=identity,
            name=self.name,
            vendor=self.vendor,
            ordinal=self.ordinal,
            minor=minor,
            memory_total_mb=None if name else self.memory_total_mb,
            memory_used_mb=None if name else used,
            utilization_percent=self.utilization_percent,
            temperature_c=self.temperature_c,
            processes=tuple(
                ProcessReading(pid=one.pid, memory_mb=one.memory_mb or None, user=one.user, name=one.name)
                for one in processes
            ),
        )


@cache
def _uuid_of(index: int, vendor: Vendor) -> str:
    made = uuid.uuid5(NAMESPACE, f"canhazgpu/{index}")
    return f"GPU-{made.hex[:16] if vendor == AMD else made}"


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scenario file."""

    gpus: list[SimulatedGpu] = []


class SimulatedProvider:
    """Reads the scenario file. An unreadable file is an error of the whole host, never an idle host."""

    name = "simulated"

    def __init__(self, path: str) -> None:
        """Store the path; the file is read at the first scan."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._scenario = Scenario()

    async def read(self) -> tuple[GpuReading, ...]:
        """Return the GPUs in the file. Raises ProviderError."""
        self._reload()
        gpus = sorted(self._scenario.gpus, key=lambda gpu: gpu.index)
        hang = max((parse_duration(gpu.hang) for gpu in gpus if gpu.hang), default=0.0)
        if hang:
            await anyio.sleep(min(hang, DEADLINE))
            if hang >= DEADLINE:
                raise no_answer()
        for gpu in gpus:
            name = (gpu.error or "").removeprefix("NVML_ERROR_")
            if name in nvml_errors.HOST:
                raise ProviderError(nvml_errors.sentence(name), nvml_errors.remedy(name))
        return tuple(gpu.read() for gpu in gpus)

    async def aclose(self) -> None:
        """Do nothing: no file stays open."""

    def _reload(self) -> None:
        try:
            with Path(self._path).open("rb") as file:
                facts = os.fstat(file.fileno())
                stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
                if stamp == self._stamp:
                    return
                values = tomllib.load(file)
            scenario = msgspec.convert(values, Scenario)
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # What tomllib and msgspec raise are ValueErrors.
            raise self._unusable(str(error)) from error
        indices = [gpu.index for gpu in scenario.gpus]
        if len(set(indices)) < len(indices):
            text = "two GPUs have the same index"
            raise self._unusable(text)
        self._scenario, self._stamp = scenario, stamp

    def _unusable(self, why: str) -> ProviderError:
        self._stamp = None
        return ProviderError(f"{self._path or 'gpus.scenario'}: {why}"[:300], REMEDY)
