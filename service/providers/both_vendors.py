"""The GPUs of two vendors on one host: NVIDIA's have the first indices, as NVML counts, and AMD's follow.

Invariant: no index ever means a GPU of the other vendor because one of the drivers does not answer. Until
both have answered once, the host cannot be read. Later, the GPUs of the driver that fails are unknown.
"""

import anyio
import msgspec

from canhazgpu.events.gpu import GpuReading
from canhazgpu.service.providers.provider import Provider, ProviderError


class BothVendors:
    """Reads two providers at the same time, each with its own deadline."""

    name = "nvml+amdsmi"

    def __init__(self, nvidia: Provider, amd: Provider) -> None:
        """Store both; they read nothing before the first scan."""
        self._providers = (nvidia, amd)
        self._last: list[tuple[GpuReading, ...] | None] = [None, None]

    async def read(self) -> tuple[GpuReading, ...]:
        """Return all GPUs by index. Raises ProviderError if both drivers fail, or one that never answered."""
        failed: list[ProviderError | None] = [None, None]

        async def read(place: int) -> None:
            try:
                self._last[place] = await self._providers[place].read()
            except ProviderError as error:
                failed[place] = error

        async with anyio.create_task_group() as group:
            group.start_soon(read, 0)
            group.start_soon(read, 1)
        nvidia, amd = (self._readings(place, error) for place, error in enumerate(failed))
        if all(failed):
            raise next(error for error in failed if error)
        first = max((gpu.index for gpu in nvidia), default=-1) + 1
        return (*nvidia, *(msgspec.structs.replace(gpu, index=first + gpu.index) for gpu in amd))

    def _readings(self, place: int, error: ProviderError | None) -> tuple[GpuReading, ...]:
        readings = self._last[place]
        if readings is None:
            raise error or ProviderError("the GPUs have not been read yet", "wait")
        if error is None:
            return readings
        return tuple(_unknown(gpu, error) for gpu in readings)

    async def aclose(self) -> None:
        """Release the resources of both."""
        async with anyio.create_task_group() as group:
            for provider in self._providers:
                group.start_soon(provider.aclose)


def _unknown(gpu: GpuReading, error: ProviderError) -> GpuReading:
    return GpuReading(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        vendor=gpu.vendor,
        ordinal=gpu.ordinal,
        minor=gpu.minor,
        unknown=error.reason,
        remedy=error.remedy,
    )
