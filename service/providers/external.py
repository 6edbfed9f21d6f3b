"""GPU providers from other packages, which are found by the name of their entry point.

An error in such a provider is a failed reading of the host. It never ends the service.
"""

import inspect

import anyio
import msgspec

from canhazgpu.config.entry_points import NotOffered, load_entry_point
from canhazgpu.config.providers import GROUP
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading
from canhazgpu.events.sanitize import printable
from canhazgpu.service.providers.provider import DEADLINE, Provider, ProviderError, ProviderFailed, no_answer

METHODS = ("read", "aclose")
GRACE = 0.5  # Seconds beyond its deadline before a reading is cancelled.


class ExternalProvider:
    """Calls a provider from another package, and checks what it returns."""

    def __init__(self, name: str, provider: Provider) -> None:
        """Wrap `provider`, which `external_provider` has checked."""
        self.name = name
        self._provider = provider

    async def read(self) -> tuple[GpuReading, ...]:
        """Return all GPUs by index. Raises ProviderError for every error of the provider."""
        try:
            with anyio.fail_after(DEADLINE + GRACE):
                readings = await self._provider.read()
            checked = msgspec.convert(readings, tuple[GpuReading, ...], strict=True)
        except ProviderError:
            raise
        except TimeoutError:
            raise no_answer() from None
        except Exception as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        if len({reading.index for reading in checked}) < len(checked):
            raise self._broken("two GPUs have the same index")
        return tuple(sorted(checked, key=lambda reading: reading.index))

    async def aclose(self) -> None:
        """Release its resources."""
        await self._provider.aclose()

    def _broken(self, why: str) -> ProviderError:
        reason = printable(f"the provider {self.name} failed: {' '.join(why.split())}", 300)
        return ProviderError(reason, f"report it to the authors of the provider {self.name}")


def external_provider(settings: Settings) -> Provider:
    """Return the provider that `gpus.provider` names, created with `gpus.options`. Raises ProviderFailed."""
    name = settings.gpus.provider
    try:
        provider: Provider = load_entry_point(GROUP, name)(settings.gpus.options, settings)
    except NotOffered as error:
        raise _failed(name, str(error)) from error
    except Exception as error:
        raise _failed(name, f"{type(error).__name__}: {error}") from error
    for method in METHODS:
        if not inspect.iscoroutinefunction(getattr(provider, method, None)):
            raise _failed(name, f"it has no `async def {method}`")
    return ExternalProvider(name, provider)


def _failed(name: str, why: str) -> ProviderFailed:
    return ProviderFailed(printable(f"gpus.provider: {name}: {' '.join(why.split())}", 300))
