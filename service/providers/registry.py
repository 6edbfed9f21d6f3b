"""Which provider reads the GPUs of this host: the one in the settings. Only that one is imported."""

from canhazgpu.config.providers import BUILT_IN
from canhazgpu.config.settings import Settings
from canhazgpu.service.providers.detection import detected_provider
from canhazgpu.service.providers.provider import Provider


def open_provider(settings: Settings) -> Provider:
    """Return the configured provider; nothing is read yet.

    Raises ProviderFailed if it is from another package and cannot be used.
    """
    gpus = settings.gpus
    if gpus.provider not in BUILT_IN:
        from canhazgpu.service.providers.external import external_provider  # noqa: PLC0415 - only the chosen one

        return external_provider(settings)
    if gpus.provider == "simulated" or (gpus.provider == "auto" and gpus.scenario):
        from canhazgpu.service.providers.simulated import SimulatedProvider  # noqa: PLC0415 - only the chosen one

        return SimulatedProvider(gpus.scenario)
    name = detected_provider() if gpus.provider == "auto" else gpus.provider
    vendors = [_nvidia() if one == "nvml" else _amd() for one in name.split("+")]
    if len(vendors) == 1:
        return vendors[0]
    from canhazgpu.service.providers.both_vendors import BothVendors  # noqa: PLC0415 - only if there are both

    return BothVendors(*vendors)


def _nvidia() -> Provider:
    from canhazgpu.service.providers.nvml import NvmlProvider  # noqa: PLC0415 - only the chosen one

    return NvmlProvider()


def _amd() -> Provider:
    from canhazgpu.service.providers.amd import AmdProvider  # noqa: PLC0415 - only the chosen one

    return AmdProvider()
