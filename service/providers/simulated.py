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
from canhazgpu.events.gpu import AMD, NVIDIA, GpuReading, MigReading, ProcessReading, Vendor
from canhazgpu.events.spelling.gpu_numbers import instance_index
from canhazgpu.service.providers import nvml_errors
from canhazgpu.service.providers.mig.readings import EMPTY, FILL
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


class SimulatedInstance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A MIG instance of a GPU: `number` is the 1 of GPU 0:1, and `error` one of NVML's error names."""

    number: Annotated[int, msgspec.Meta(ge=0, le=1023)]
    profile: str | None = "1g.10gb"
    uuid: str = ""
    gpu_instance: int | None = None
    compute_instance: int = 0
    memory_total_mb: Megabytes | None = 9728
    memory_used_mb: Megabytes = 0
    error: str | None = None
    processes: list[SimulatedProcess] = []

    def listed(self, card: "SimulatedGpu") -> MigReading:
        """Return the instance as its GPU lists it."""
        return MigReading(
            uuid=self.uuid or _instance_uuid(card.index, self.number),
            gpu_instance=self.number + 1 if self.gpu_instance is None else self.gpu_instance,
            compute_instance=self.compute_instance,
            memory_total_mb=self.memory_total_mb,
            memory_used_mb=self.memory_used_mb,
            number=self.number,
            profile=self.profile,
        )

    def as_gpu(self, card: "SimulatedGpu") -> "SimulatedGpu":
        """Return the instance as a GPU."""
        return SimulatedGpu(
            index=instance_index(card.index, self.number),
            minor=card.index if card.minor is None else card.minor,
            name=f"{card.name} MIG {self.profile or 'instance'}",
            uuid=self.uuid or _instance_uuid(card.index, self.number),
            memory_total_mb=self.memory_total_mb,
            memory_used_mb=self.memory_used_mb,
            error=card.error or self.error,
            processes=self.processes,
        )


class SimulatedGpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU; `error` is one of NVML's error names, `hang` a duration. `minor` is its index by default.

    `ordinal` is the number by which the vendor's runtime counts it, if that is not its index. With `mig`, MIG
    is on, and these are its instances.
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
    mig: list[SimulatedInstance] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if self.error is not None and self.error.removeprefix("NVML_ERROR_") not in nvml_errors.CODES:
            message = f"error: {self.error[:40]!r} is not the name of an NVML error"
            raise ValueError(message)
        if self.hang is not None:
            parse_duration(self.hang)

    def readings(self) -> list[GpuReading]:
        """Return the reading as from NVML, with those of its MIG instances."""
        if self.mig is None:
            return [msgspec.structs.replace(self.read(), divided=None if self.error else False)]
        card = msgspec.structs.replace(
            self.read(),
            memory_used_mb=None,
            utilization_percent=None,
            processes=(),
            mig=tuple(one.listed(self) for one in self.mig),
            divided=None if self.error else True,
        )
        if not self.mig and not self.error:
            card = msgspec.structs.replace(card, unknown=EMPTY, remedy=FILL)
        parts = [
            msgspec.structs.replace(one.as_gpu(self).read(), profile=one.profile)
            for one in sorted(self.mig, key=lambda one: one.number)
        ]
        return [card, *parts]

    def read(self) -> GpuReading:
        """Return the reading of a GPU that is not divided."""
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
def _instance_uuid(card: int, number: int) -> str:
    return f"MIG-{uuid.uuid5(NAMESPACE, f'canhazgpu/{card}/{number}')}"


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
        return tuple(reading for gpu in gpus for reading in gpu.readings())

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
        for gpu in scenario.gpus:
            if len({one.number for one in gpu.mig or ()}) < len(gpu.mig or ()):
                text = f"two MIG instances of GPU {gpu.index} have the same number"
                raise self._unusable(text)
        self._scenario, self._stamp = scenario, stamp

    def _unusable(self, why: str) -> ProviderError:
        self._stamp = None
        return ProviderError(f"{self._path or 'gpus.scenario'}: {why}"[:300], REMEDY)
