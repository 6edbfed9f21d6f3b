"""The NVML provider, its helper and pynvml against a driver library that misbehaves on demand."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import anyio
import pytest
from support.eventually import eventually, until
from support.nvml import Say

from canhazgpu.service.providers.nvml import NvmlProvider
from canhazgpu.service.providers.provider import DEADLINE, ProviderError

GPU0 = "gpu GPU-aaaa H100 81559 45 500\n"
GPU1 = "gpu GPU-bbbb H100 81559 45 500\n"
ARCHITECTURE = (Path(__file__).parents[2] / "docs/architecture.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.anyio


async def test_an_idle_gpu_does_not_count_reserved_memory(say: Say, provider: NvmlProvider) -> None:
    """Memory that the driver reserves for itself does not count as used."""
    say(GPU0)
    (gpu,) = await provider.read()
    assert (gpu.uuid, gpu.name, gpu.memory_total_mb, gpu.memory_used_mb) == ("GPU-aaaa", "H100", 81559, 45)
    assert (gpu.utilization_percent, gpu.temperature_c) == (37, 41)
    assert gpu.processes == ()


async def test_the_number_of_the_device_file_is_read(say: Say, provider: NvmlProvider) -> None:
    """The minor number of a GPU is what the driver says, which is not the index."""
    say(f"{GPU0}minor 1\n{GPU1}minor 0\n")
    assert [(gpu.index, gpu.minor) for gpu in await provider.read()] == [(0, 1), (1, 0)]
    say(f"{GPU0}minor 1\nmemory 999\n{GPU1}minor 0\n")
    assert [gpu.minor for gpu in await provider.read()] == [1, 0]


async def test_a_device_file_that_the_driver_does_not_tell_is_unknown(
    say: Say, provider: NvmlProvider
) -> None:
    """A driver without minor numbers, as under WSL, leaves the number unknown and the GPU usable."""
    say(f"{GPU0}minor -1\n")
    (gpu,) = await provider.read()
    assert (gpu.minor, gpu.error, gpu.unknown) == (None, None, None)


async def test_process_lists_are_merged_by_pid(say: Say, provider: NvmlProvider) -> None:
    """A process in several lists is reported once, with its largest memory and all kinds."""
    me = os.getpid()
    say(f"{GPU0}proc c {me} 300\nproc g {me} 500\nproc m {me} 10\nproc c 1 100\n")
    (gpu,) = await provider.read()
    merged = {process.pid: (process.memory_mb, process.kinds) for process in gpu.processes}
    assert merged == {me: (500, ("compute", "graphics", "mps")), 1: (100, ("compute",))}


@pytest.mark.parametrize("memory", [-1, 0])
async def test_memory_that_is_not_told_is_unknown(say: Say, provider: NvmlProvider, memory: int) -> None:
    """For a process's memory, 0 and not available both mean unknown."""
    say(f"{GPU0}proc c {os.getpid()} {memory}\n")
    (gpu,) = await provider.read()
    assert [process.memory_mb for process in gpu.processes] == [None]


async def test_memory_of_the_gpu_not_supported_is_none(say: Say, provider: NvmlProvider) -> None:
    """A GPU without readable memory use per device has no error."""
    say(f"{GPU0}memory 3\n")
    (gpu,) = await provider.read()
    assert (gpu.error, gpu.unknown, gpu.memory_used_mb) == (None, None, None)


@pytest.mark.parametrize("pid", [0, 4294967295])
async def test_a_garbage_process_list_makes_the_gpu_unknown(
    say: Say, provider: NvmlProvider, pid: int
) -> None:
    """An impossible PID makes the whole list invalid, and the GPU unknown."""
    say(f"{GPU0}proc c {os.getpid()} 10\nproc c {pid} 10\n{GPU1}")
    broken, good = await provider.read()
    assert broken.unknown is not None
    assert "process list is invalid" in broken.unknown
    assert broken.processes == ()
    assert good.unknown is None


@pytest.mark.parametrize(
    ("where", "code", "field", "text"),
    [
        ("handle", 15, "error", "GPU is lost"),
        ("memory", 15, "error", "GPU is lost"),
        ("lists", 16, "error", "GPU requires reset"),
        ("handle", 999, "error", "Unknown Error"),
        ("handle", 4, "unknown", "Insufficient Permissions"),
        ("lists", 17, "unknown", "The operating system has blocked the request"),
    ],
)
async def test_one_bad_gpu_hides_no_other(
    say: Say, provider: NvmlProvider, where: str, code: int, field: str, text: str
) -> None:
    """A GPU that fails has a reason, and the other GPUs are read."""
    say(f"{GPU0}{where} {code}\n{GPU1}")
    bad, good = await provider.read()
    assert getattr(bad, field) == text
    assert (good.error, good.unknown, good.memory_used_mb) == (None, None, 45)


@pytest.mark.parametrize(
    ("code", "reason", "remedy"),
    [
        (9, "Driver Not Loaded", "modprobe"),
        (18, "Driver/library version mismatch", "reboot"),
        (999, "Unknown Error", "dmesg"),
    ],
)
async def test_a_driver_that_does_not_start_is_told_and_tried_again(
    say: Say, provider: NvmlProvider, code: int, reason: str, remedy: str
) -> None:
    """A driver that does not start is an error of the host with a remedy, and is tried again."""
    say(f"init {code}\n{GPU0}")
    with pytest.raises(ProviderError) as caught:
        await provider.read()
    assert caught.value.reason == reason
    assert remedy in caught.value.remedy
    say(GPU0)
    await _recovers(provider)


async def test_without_the_library_it_says_what_to_install(
    provider: NvmlProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the library is missing, the error says what to install."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    if subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, check=True).stdout.count(
        b"libnvidia-ml"
    ):
        pytest.skip("this host has the real library")
    with pytest.raises(ProviderError, match="NVML Shared Library Not Found"):
        await provider.read()


async def test_a_driver_that_hangs_costs_no_more_than_the_deadline(say: Say) -> None:
    """A helper that hangs is replaced after the deadline, and the next one answers."""
    provider = NvmlProvider(patience=0)
    say("init hang\n" + GPU0)
    began = time.monotonic()
    with pytest.raises(ProviderError, match="no answer from the driver"):
        await provider.read()
    assert time.monotonic() - began < DEADLINE + 30  # It would hang for ten minutes.
    say(GPU0)
    await _recovers(provider)
    await provider.aclose()


async def test_a_crash_of_the_library_hurts_the_helper_alone(say: Say, provider: NvmlProvider) -> None:
    """A crash of the library at its start is one failed reading."""
    say("init crash\n" + GPU0)
    with pytest.raises(ProviderError, match="crashed"):
        await provider.read()
    say(GPU0)
    await _recovers(provider)


async def test_a_list_that_grows_meanwhile_is_asked_for_again(say: Say, provider: NvmlProvider) -> None:
    """A process list that grows in the meantime is requested again."""
    say(f"{GPU0}short 2\nproc c {os.getpid()} 100\n")
    (gpu,) = await provider.read()
    assert [process.pid for process in gpu.processes] == [os.getpid()]


async def test_in_a_pid_namespace_of_its_own_it_refuses(say: Say, tmp_path: Path) -> None:
    """In a PID namespace of its own, the provider refuses to read, because it would not see all processes."""
    say(GPU0)
    link = tmp_path / "pid"
    link.symlink_to("pid:[4026532000]")
    with pytest.raises(ProviderError, match="partial view"):
        await NvmlProvider(namespace=link).read()


async def test_the_helper_ends_with_its_parent(say: Say, provider: NvmlProvider) -> None:
    """The helper ends when its parent closes its input."""
    say(GPU0)
    await provider.read()
    helper = provider._helper  # noqa: SLF001 - it is what this test is about
    assert helper is not None
    helper._input.close()  # noqa: SLF001 - likewise

    async def gone() -> bool:
        return helper.has_exited()

    await eventually(gone)


async def test_the_service_holds_the_device_files_until_it_stops(
    say: Say, provider: NvmlProvider, tmp_path: Path
) -> None:
    """As docs/architecture.md says: a card can be reset once the service has stopped, and not before."""
    device = tmp_path / "nvidia0"
    device.touch()
    say(f"device {device}\n{GPU0}")

    def holders() -> set[str]:
        found = set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                found |= {link.parts[2]} if link.readlink() == device else set()
        return found

    await provider.read()
    assert len(holders()) == 1
    assert str(os.getpid()) not in holders()
    await provider.aclose()
    until(lambda: holders() == set())  # A killed process may take a while to end.
    assert "The helper keeps the device files open." in ARCHITECTURE
    assert "Run\n`systemctl stop canhazgpu` before" in ARCHITECTURE


async def _recovers(provider: NvmlProvider) -> None:
    with anyio.fail_after(60):
        while True:
            try:
                (gpu,) = await provider.read()
            except ProviderError:
                await anyio.sleep(0.02)
            else:
                assert gpu.memory_used_mb == 45
                return
