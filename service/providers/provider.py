"""The interface of GPU providers, and their errors. `docs/integrators.md` shows how to add one."""

from typing import Protocol

from canhazgpu.events.gpu import GpuReading

DEADLINE = 2.0  # Timeout of a scan in seconds.
HANGING = "look at `dmesg` and `nvidia-smi`; if they hang too, the host needs a restart"


class ProviderError(Exception):
    """The GPUs of the host could not be read; `reason` and `remedy` are sentences for people."""

    def __init__(self, reason: str, remedy: str) -> None:
        """Store both; the message is the reason."""
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Starting(ProviderError):
    """The driver is still opening the GPUs; try again."""


class ProviderFailed(Exception):
    """The configured provider cannot be used; the message says which one and why, on one line."""


class Provider(Protocol):
    """A source of GPU readings."""

    name: str

    async def read(self) -> tuple[GpuReading, ...]:
        """Return all GPUs by index. Raises ProviderError, at the latest after DEADLINE."""

    async def aclose(self) -> None:
        """Release all resources without waiting for a driver."""


def no_answer(remedy: str = HANGING) -> ProviderError:
    """Return the error for a missed deadline."""
    return ProviderError(f"no answer from the driver in {DEADLINE:g} s", remedy)
