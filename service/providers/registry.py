"""Which provider reads the GPUs of this host: the one in the settings. Only that one is imported."""

from canhazgpu.config.settings import Settings
from canhazgpu.service.providers.provider import Provider


def open_provider(settings: Settings) -> Provider:
    """Return the configured provider; nothing is read yet."""
    gpus = settings.gpus
    if gpus.provider == "simulated" or (gpus.provider == "auto" and gpus.scenario):
        from canhazgpu.service.providers.simulated import SimulatedProvider  # noqa: PLC0415 - only the chosen one

        return SimulatedProvider(gpus.scenario)
    from canhazgpu.service.providers.nvml import NvmlProvider  # noqa: PLC0415 - only the chosen one

    return NvmlProvider()
