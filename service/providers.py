"""Where readings of GPUs come from: the interface, and the choice between its implementations."""

from typing import Protocol

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading

DEADLINE = 2.0  # Seconds a driver may take to answer before the scan counts as failed.


class ProviderError(Exception):
    """No GPU of the host could be read this time; `reason` and `remedy` are sentences for people."""

    def __init__(self, reason: str, remedy: str) -> None:
        """Keep both; the message is the reason."""
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Starting(ProviderError):
    """The driver opens the GPUs still: ask again."""


class Provider(Protocol):
    """One source of readings."""

    name: str

    async def read(self) -> tuple[GpuReading, ...]:
        """Return every GPU as it is now, by index. Raises ProviderError, at the latest after DEADLINE."""

    async def aclose(self) -> None:
        """Let go of everything; never waits for a driver."""


def no_answer() -> ProviderError:
    """Return what is raised when the deadline passes."""
    return ProviderError(
        f"no answer from the driver in {DEADLINE:g} s",
        "look at `dmesg` and `nvidia-smi`; if they hang too, the host needs a restart",
    )


def open_provider(settings: Settings) -> Provider:
    """Return the provider the settings ask for; nothing is read yet."""
    gpus = settings.gpus
    if gpus.provider == "simulated" or (gpus.provider == "auto" and gpus.scenario):
        from canhazgpu.service.simulated import SimulatedProvider  # noqa: PLC0415 - only the chosen one

        return SimulatedProvider(gpus.scenario)
    from canhazgpu.service.nvml import NvmlProvider  # noqa: PLC0415 - only the chosen one

    return NvmlProvider()
