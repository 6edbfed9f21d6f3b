"""The AMD provider, its helper and the package amdsmi against a library that misbehaves on demand."""

import os
from pathlib import Path

import pytest
from support.amd import PatientAmdProvider, Say, compile_library

from canhazgpu.service.providers import amd_errors
from canhazgpu.service.providers.amd import AmdProvider
from canhazgpu.service.providers.nvml import CRASHES, HANGS
from canhazgpu.service.providers.provider import ProviderError

GPU0 = "gpu 0000:03:00.0 MI300X 196592 283\nunique 1a2b3c4d5e6f7788\nbusy 0\nhotspot 41\n"
GPU1 = "gpu 0000:83:00.0 MI300X 196592 283\nunique 99aabbccddeeff00\nbusy 0\nhotspot 41\n"
MIB = 1024 * 1024
pytestmark = pytest.mark.anyio


async def test_a_gpu_is_known_by_the_name_that_rocm_gives_it(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A GPU has the UUID that ROCR_VISIBLE_DEVICES accepts, its model, memory, activity and temperature."""
    say_amd(GPU0.replace("busy 0", "busy 37") + "hip 5\n")
    (gpu,) = await amd_provider.read()
    assert (gpu.uuid, gpu.name, gpu.vendor) == ("GPU-1a2b3c4d5e6f7788", "MI300X", "amd")
    assert (gpu.index, gpu.ordinal, gpu.minor, gpu.mig) == (0, 5, None, ())
    assert (gpu.memory_total_mb, gpu.utilization_percent, gpu.temperature_c) == (196592, 37, 41)


async def test_a_gpu_without_a_unique_id_is_known_by_its_address(
    say_amd: Say, amd_provider: AmdProvider
) -> None:
    """A GPU of a desktop has no unique id: its PCI address identifies it."""
    say_amd("gpu 0000:0b:00.0 RX6600 8176 20\nedge 50\n")
    (gpu,) = await amd_provider.read()
    assert (gpu.uuid, gpu.temperature_c) == ("PCI-0000-0b-00.0", 50)


async def test_partitions_with_one_unique_id_are_told_apart(say_amd: Say, amd_provider: AmdProvider) -> None:
    """The partitions of an accelerator that share a unique id are known by their addresses."""
    parts = [GPU0.replace("03:00.0", f"03:00.{part}") + f"hip {part}\n" for part in range(2)]
    say_amd("".join(parts) + GPU1 + "hip 2\n")
    found = await amd_provider.read()
    assert [gpu.uuid for gpu in found] == ["PCI-0000-03-00.0", "PCI-0000-03-00.1", "GPU-99aabbccddeeff00"]
    assert [gpu.ordinal for gpu in found] == [0, 1, 2]


async def test_memory_of_the_driver_itself_does_not_count(say_amd: Say, amd_provider: AmdProvider) -> None:
    """What an idle accelerator uses for itself is left out, and what comes later is not."""
    say_amd(GPU0)
    (idle,) = await amd_provider.read()
    say_amd(GPU0.replace("283", "5283"))
    (used,) = await amd_provider.read()
    assert (idle.memory_used_mb, used.memory_used_mb) == (0, 5000)


async def test_much_memory_without_a_process_counts(say_amd: Say, amd_provider: AmdProvider) -> None:
    """More memory than any driver needs is in use from the beginning."""
    say_amd(GPU0.replace("283", "9000"))
    (gpu,) = await amd_provider.read()
    assert gpu.memory_used_mb == 9000 - 512


async def test_processes_have_their_memory(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A process has its video memory; on an integrated GPU, all memory that it uses through it."""
    me = os.getpid()
    say_amd(f"{GPU0}proc {me} {300 * MIB} {900 * MIB}\nproc 1 0 {200 * MIB}\n")
    (gpu,) = await amd_provider.read()
    assert {one.pid: one.memory_mb for one in gpu.processes} == {me: 300, 1: 200}


async def test_no_name_hides_a_process(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A process whose name is no UTF-8, at which the Python package fails, is listed like the others."""
    me = os.getpid()
    say_amd(f"{GPU0}proc {me} {300 * MIB} 0\nodd\nproc 1 {MIB} 0\n")
    (gpu,) = await amd_provider.read()
    assert gpu.unknown is None
    assert {one.pid: one.memory_mb for one in gpu.processes} == {me: 300, 1: 1}


async def test_a_process_on_another_gpu_is_left_out(say_amd: Say, amd_provider: AmdProvider) -> None:
    """Releases that list a process under every GPU give it no memory where it does not run."""
    me = os.getpid()
    say_amd(f"{GPU0}proc {me} {300 * MIB} {300 * MIB}\n{GPU1}proc {me} 0 0\n")
    assert [len(gpu.processes) for gpu in await amd_provider.read()] == [1, 0]


@pytest.mark.parametrize("pid", [0, 4294967295])
async def test_an_impossible_pid_makes_the_gpu_unknown(
    say_amd: Say, amd_provider: AmdProvider, pid: int
) -> None:
    """An impossible PID makes the whole list invalid, and only this GPU unknown."""
    say_amd(f"{GPU0}proc {pid} {MIB} {MIB}\n{GPU1}")
    broken, good = await amd_provider.read()
    assert broken.unknown is not None
    assert str(pid) in broken.unknown
    assert (good.error, good.unknown) == (None, None)


async def test_a_list_that_only_root_can_read_is_unknown(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A process list without permission makes the GPU unknown, never free, and says what to do."""
    say_amd(f"{GPU0}lists {amd_errors.CODES['NO_PERM']}\n")
    (gpu,) = await amd_provider.read()
    assert (gpu.error, gpu.unknown, gpu.vendor) == (None, "Permission Denied", "amd")
    assert gpu.remedy == amd_errors.REMEDIES["NO_PERM"]


async def test_a_list_that_does_not_exist_is_said(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A GPU without a process list, such as a partition in a guest, reports that it has none."""
    say_amd(f"{GPU0}lists {amd_errors.CODES['NOT_SUPPORTED']}\n")
    (gpu,) = await amd_provider.read()
    assert (gpu.error, gpu.unknown, gpu.processes, gpu.processes_reported) == (None, None, (), False)


async def test_values_that_are_not_available_are_unknown(say_amd: Say, amd_provider: AmdProvider) -> None:
    """`N/A` for the activity, no sensor and no memory of its own are no errors."""
    say_amd(f"gpu 0000:03:00.0 MI300A 0 0\nbusy 65535\nmemory {amd_errors.CODES['NOT_SUPPORTED']}\n")
    (gpu,) = await amd_provider.read()
    assert (gpu.error, gpu.unknown, gpu.memory_used_mb, gpu.memory_total_mb) == (None, None, None, None)
    assert (gpu.utilization_percent, gpu.temperature_c) == (None, None)


async def test_names_that_cannot_be_read_hide_nothing(say_amd: Say, amd_provider: AmdProvider) -> None:
    """Without the functions of names, a GPU is known by its address and ROCm's number by its place."""
    say_amd(f"{GPU0}names {amd_errors.CODES['NOT_YET_IMPLEMENTED']}\n")
    (gpu,) = await amd_provider.read()
    assert (gpu.uuid, gpu.name, gpu.ordinal) == ("PCI-0000-03-00.0", "AMD GPU", 0)


@pytest.mark.parametrize("name", ["NOT_FOUND", "IO", "UNKNOWN_ERROR"])
async def test_a_broken_gpu_is_an_error(say_amd: Say, amd_provider: AmdProvider, name: str) -> None:
    """A GPU that is gone or broken is in error with AMD's sentence; the others are read."""
    code = amd_errors.CODES[name]
    say_amd(f"{GPU0}memory {code if code < 2**31 else code - 2**32}\n{GPU1}")
    broken, good = await amd_provider.read()
    assert (broken.error, broken.uuid) == (amd_errors.sentence(name), "GPU-1a2b3c4d5e6f7788")
    assert (good.error, good.unknown) == (None, None)


async def test_a_gpu_that_does_not_say_what_it_is_recovers(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A GPU whose address cannot be read is unknown until it can be."""
    say_amd(f"{GPU0}bdf {amd_errors.CODES['BUSY']}\n{GPU1}")
    busy, good = await amd_provider.read()
    assert (busy.unknown, busy.vendor, good.unknown) == ("Device busy", "amd", None)
    say_amd(GPU0 + GPU1)
    back, _ = await amd_provider.read()
    assert (back.unknown, back.uuid) == (None, "GPU-1a2b3c4d5e6f7788")


@pytest.mark.parametrize("name", ["DRIVER_NOT_LOADED", "INIT_ERROR"])
async def test_without_the_driver_the_host_cannot_be_read(
    say_amd: Say, amd_provider: AmdProvider, name: str
) -> None:
    """If the library finds no driver, the reading fails with its sentence and what to do."""
    say_amd(f"init {amd_errors.CODES[name]}\n")
    with pytest.raises(ProviderError) as failure:
        await amd_provider.read()
    assert (failure.value.reason, failure.value.remedy) == (
        amd_errors.sentence(name),
        amd_errors.REMEDIES[name],
    )


async def test_a_crash_leaves_out_one_gpu(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A GPU at which the library crashes is in error; the others are read in the same scan."""
    say_amd(f"{GPU0}crash\n{GPU1}")
    broken, good = await amd_provider.read()
    assert (broken.error, good.error, good.uuid) == (CRASHES, None, "GPU-99aabbccddeeff00")


@pytest.mark.usefixtures("amd_provider", "hanging")
async def test_a_hang_leaves_out_one_gpu(say_amd: Say, amd_provider: AmdProvider) -> None:
    """A GPU for which the driver hangs is in error within the deadline, and is then not asked again."""
    say_amd(GPU0 + GPU1)
    await amd_provider.read()
    say_amd(f"{GPU0}{GPU1}hang 600\n")
    good, hanging = await amd_provider.read()
    assert (hanging.error, hanging.vendor, good.error) == (HANGS, "amd", None)
    good, hanging = await amd_provider.read()
    assert (good.memory_used_mb, hanging.error) == (0, HANGS)


async def test_a_package_that_is_too_new_says_so(
    say_amd: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that lacks a function of the Python package is said to be older than that."""
    say_amd(GPU0)
    compile_library(tmp_path, without="amdsmi_get_gpu_process_list")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    await _fails_with("undefined symbol")


async def test_a_missing_library_says_so(
    say_amd: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without AMD's library, the reading fails and names the package to install."""
    say_amd(GPU0)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    await _fails_with("libamd_smi.so")


async def test_a_missing_package_says_so(
    say_amd: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the Python package, the reading fails and names the extra to install."""
    say_amd(GPU0)
    (tmp_path / "amdsmi.py").write_text("raise ModuleNotFoundError(\"No module named 'amdsmi'\")\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    await _fails_with("No module named")


async def _fails_with(text: str) -> None:
    provider = PatientAmdProvider()
    try:
        with pytest.raises(ProviderError) as failure:
            await provider.read()
    finally:
        await provider.aclose()
    assert (failure.value.reason, failure.value.remedy) == amd_errors.import_error(text)
