"""The names of GPU providers: the built-in ones, and those that installed packages offer by entry points."""

from importlib.metadata import entry_points

GROUP = "canhazgpu.providers"
BUILT_IN = ("auto", "nvml", "amdsmi", "nvml+amdsmi", "simulated")


def provider_names() -> list[str]:
    """Return the values that `gpus.provider` can have on this host. No package is imported for this."""
    return [*BUILT_IN, *sorted({point.name for point in entry_points(group=GROUP)} - {*BUILT_IN})]
