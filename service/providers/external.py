"""GPU providers from other packages, which are found by the name of their entry point.

An error in such a provider is a failed reading of the host. It never ends the service.
"""

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import anyio
import msgspec

from canhazgpu.config.providers import GROUP
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading
from canhazgpu.events.sanitize import printable
from canhazgpu.service.providers.provider import DEADLINE, Provider, ProviderError, ProviderFailed, no_answer

METHODS = ("read", "aclose")
GRACE = 0.5  # Seconds beyond its deadline before a reading is cancelled.

Factory = Callable[[dict[str, Any], Settings], Provider]


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
        provider = _factory(name)(settings.gpus.options, settings)
    except ProviderFailed:
        raise
    except Exception as error:
        raise _failed(name, f"{type(error).__name__}: {error}") from error
    for method in METHODS:
        if not inspect.iscoroutinefunction(getattr(provider, method, None)):
            raise _failed(name, f"it has no `async def {method}`")
    return ExternalProvider(name, provider)


def _factory(name: str) -> Factory:
    found = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not found:
        raise _failed(name, f"no installed package has an entry point of this name in {GROUP}")
    if len(found) > 1:
        raise _failed(name, f"several packages have it: {', '.join(sorted(found))}")
    factory: Factory = next(iter(found.values())).load()
    return factory


def _failed(name: str, why: str) -> ProviderFailed:
    return ProviderFailed(printable(f"gpus.provider: {name}: {' '.join(why.split())}", 300))
