"""A host with the drivers of both vendors, read through both libraries."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.amd import Say

from canhazgpu.config.settings import Gpus, Settings
from canhazgpu.events.gpu import GpuReading
from canhazgpu.service.providers import registry
from canhazgpu.service.providers.provider import Provider, ProviderError, Starting
from canhazgpu.service.providers.registry import open_provider

NVIDIA = "gpu GPU-aaaa H100 81559 45 500\n"
AMD = "gpu 0000:03:00.0 MI300X 196592 283\nunique 1a2b3c4d5e6f7788\nbusy 0\nhotspot 41\n"
pytestmark = pytest.mark.anyio


@pytest.fixture
async def both(
    say: Say,
    say_amd: Say,
    nvml_library: Path,
    amd_library: Path,
    hanging: None,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Provider]:
    """The provider of a host with one GPU of each vendor."""
    del hanging
    say(NVIDIA)
    say_amd(AMD)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{nvml_library}:{amd_library}")
    made = open_provider(Settings(gpus=Gpus(provider="nvml+amdsmi")))
    yield made
    await made.aclose()


async def read(provider: Provider) -> tuple[GpuReading, ...]:
    """Return the GPUs once both drivers have started."""
    while True:
        with suppress(Starting):
            return await provider.read()


async def test_both_libraries_are_read(both: Provider) -> None:
    """Each driver is read by its own helper, and the GPUs have different indices."""
    found = [(gpu.index, gpu.uuid, gpu.vendor, gpu.ordinal) for gpu in await read(both)]
    assert found == [(0, "GPU-aaaa", "nvidia", None), (1, "GPU-1a2b3c4d5e6f7788", "amd", 0)]


async def test_a_driver_that_hangs_hides_only_its_own_gpus(both: Provider, say_amd: Say) -> None:
    """While one driver hangs, the other's GPU is read within the same deadline."""
    await read(both)
    say_amd(f"{AMD}hang 600\n")
    nvidia, amd = await both.read()
    assert (nvidia.unknown, nvidia.error) == (None, None)
    assert amd.error or amd.unknown
    assert (amd.index, amd.uuid) == (1, "GPU-1a2b3c4d5e6f7788")


async def test_a_card_that_is_added_moves_the_others(both: Provider, say: Say) -> None:
    """If NVIDIA's driver lists another card, AMD's follow it; their UUIDs tell where they are now."""
    await read(both)
    say(f"{NVIDIA}gpu GPU-bbbb H100 81559 45 500\n")
    assert [gpu.uuid for gpu in await both.read()] == ["GPU-aaaa", "GPU-bbbb", "GPU-1a2b3c4d5e6f7788"]


async def test_auto_opens_what_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `auto`, the drivers decide; with a scenario, the simulation is meant."""
    for detected in ("nvml", "amdsmi", "nvml+amdsmi"):
        monkeypatch.setattr(registry, "detected_provider", lambda detected=detected: detected)
        opened = open_provider(Settings())
        assert opened.name == detected
        await opened.aclose()
        assert open_provider(Settings(gpus=Gpus(scenario="gpus.toml"))).name == "simulated"


async def test_without_a_driver_both_are_missing(say: Say, say_amd: Say, both: Provider) -> None:
    """If neither driver is loaded, the reading fails with a reason and what to do."""
    say("init 9\n")
    say_amd("init 34\n")
    with pytest.raises(ProviderError) as failure:
        await read(both)
    assert failure.value.reason in {"Driver Not Loaded", "Driver not loaded"}
