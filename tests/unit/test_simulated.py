"""The simulated provider reads its file again when it changes; a bad file is an error, not idle GPUs."""

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from canhazgpu.events.gpu import GpuReading, vendor_of
from canhazgpu.service.providers import nvml_errors
from canhazgpu.service.providers.provider import ProviderError
from canhazgpu.service.providers.simulated import SimulatedProvider

pytestmark = pytest.mark.anyio
GONE = 2**22 + 1  # Above the kernel's largest pid.


class File:
    """A scenario file and its provider."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.provider = SimulatedProvider(str(path))

    async def read(self, text: str) -> tuple[GpuReading, ...]:
        """Replace the file like an editor does, and read the GPUs."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)
        return await self.provider.read()


@pytest.fixture
def file(tmp_path: Path) -> File:
    """A scenario file that does not exist yet."""
    return File(tmp_path / "gpus.toml")


async def refused(reading: Callable[[], Awaitable[object]]) -> ProviderError:
    """Return the error of a reading."""
    with pytest.raises(ProviderError) as error:
        await reading()
    return error.value


async def test_it_reads_again_when_the_file_changes(file: File) -> None:
    """The next reading notices if the file was replaced, overwritten or emptied."""
    (gpu,) = await file.read("[[gpus]]\nindex = 0\nmemory_used_mb = 45\n")
    assert (gpu.index, gpu.memory_used_mb, gpu.processes) == (0, 45, ())
    (gpu,) = await file.read("[[gpus]]\nindex = 0\nmemory_used_mb = 46\n")
    assert gpu.memory_used_mb == 46
    file.path.write_text("[[gpus]]\nindex = 1\n[[gpus]]\nindex = 0\n")
    assert [gpu.index for gpu in await file.provider.read()] == [0, 1]
    assert await file.read("") == ()


async def test_the_same_file_gives_the_same_gpus(file: File) -> None:
    """A default UUID depends only on the index, and differs between GPUs."""
    first = await file.read("[[gpus]]\nindex = 0\n[[gpus]]\nindex = 1\n")
    assert await file.provider.read() == first
    again = await SimulatedProvider(str(file.path)).read()
    assert [gpu.uuid for gpu in again] == [gpu.uuid for gpu in first]
    assert first[0].uuid != first[1].uuid
    (named,) = await file.read('[[gpus]]\nindex = 0\nuuid = "GPU-x"\n')
    assert named.uuid == "GPU-x"


async def test_a_gpu_of_amd(file: File) -> None:
    """A GPU of AMD has a UUID as ROCm spells it, and no device file of NVIDIA's."""
    (gpu,) = await file.read('[[gpus]]\nindex = 2\nvendor = "amd"\nordinal = 0\n')
    assert (gpu.vendor, gpu.ordinal, gpu.minor, len(gpu.uuid)) == ("amd", 0, None, 20)
    assert vendor_of(gpu.uuid) == "amd"


@pytest.mark.parametrize(
    "text",
    [
        "[[gpus]\n",
        "gpus = 5\n",
        "gpu = []\n",
        "[[gpus]]\nname = 'x'\n",
        "[[gpus]]\nindex = -1\n",
        "[[gpus]]\nindex = 1024\n",
        "[[gpus]]\nindex = '0'\n",
        "[[gpus]]\nindex = 0\ncolour = 'red'\n",
        "[[gpus]]\nindex = 0\nmemory_used_mb = -1\n",
        "[[gpus]]\nindex = 0\nerror = 'BROKEN'\n",
        "[[gpus]]\nindex = 0\nhang = 'long'\n",
        "[[gpus]]\nindex = 0\n[[gpus.processes]]\nmemory_mb = 5\n",
        "[[gpus]]\nindex = 0\n[[gpus.processes]]\npid = -5\n",
        "[[gpus]]\nindex = 0\n[[gpus]]\nindex = 0\n",
        f"[[gpus]]\nindex = {'9' * 5000}\n",
        f"gpus = {'[' * 5000}",
    ],
)
async def test_a_bad_file_is_an_error_until_it_is_good(file: File, text: str) -> None:
    """A bad file is an error until it is replaced; the GPUs of the last good file are not kept."""
    await file.read("[[gpus]]\nindex = 0\n")
    for _ in range(2):
        error = await refused(lambda: file.read(text))
        assert error.reason.startswith(f"{file.path}: ")
        assert len(error.reason) <= 300
        assert error.remedy == "fix the file; it is read again when it changes"
        assert (await refused(file.provider.read)).reason == error.reason
    assert len(await file.read("[[gpus]]\nindex = 0\n")) == 1


async def test_bytes_that_are_no_text_and_a_file_that_is_none(file: File) -> None:
    """Invalid UTF-8, a missing file, a folder and an empty path are errors."""
    file.path.write_bytes(b"\xff\xfe")
    assert "gpus.toml" in (await refused(file.provider.read)).reason
    file.path.unlink()
    assert "cannot be read: No such file" in (await refused(file.provider.read)).reason
    file.path.mkdir()
    assert "cannot be read: Is a directory" in (await refused(file.provider.read)).reason
    assert (await refused(SimulatedProvider("").read)).reason.startswith("gpus.scenario: cannot be read")


async def test_a_file_that_was_gone_for_a_moment_is_read_again(file: File, tmp_path: Path) -> None:
    """A file that was moved away and back is valid again."""
    await file.read("[[gpus]]\nindex = 0\n")
    file.path.rename(tmp_path / "away")
    await refused(file.provider.read)
    (tmp_path / "away").rename(file.path)
    assert len(await file.provider.read()) == 1


async def test_real_processes_are_seen_while_they_live(file: File) -> None:
    """A process with a real pid is reported while it exists, a fully simulated one always."""
    text = f"""
[[gpus]]
index = 0
memory_used_mb = 10
processes = [
  {{ pid = {os.getpid()}, memory_mb = 100 }},
  {{ pid = {GONE}, memory_mb = 1000 }},
  {{ pid = {GONE}, memory_mb = 1000, user = "bob" }},
  {{ pid = {GONE + 1}, memory_mb = 200, user = "bob", name = "python3" }},
  {{ pid = {os.getppid()} }},
]
"""
    (gpu,) = await file.read(text)
    assert [one.pid for one in gpu.processes] == [os.getpid(), GONE + 1, os.getppid()]
    assert [one.memory_mb for one in gpu.processes] == [100, 200, None]
    assert gpu.memory_used_mb == 310


@pytest.mark.parametrize("name", sorted(set(nvml_errors.CODES) - nvml_errors.HOST - {"NOT_SUPPORTED"}))
@pytest.mark.parametrize("prefix", ["", "NVML_ERROR_"])
async def test_an_error_of_one_gpu_leaves_the_others(file: File, name: str, prefix: str) -> None:
    """Every NVML error of one GPU, under either name, leaves the other GPUs readable."""
    text = f'[[gpus]]\nindex = 0\nmemory_used_mb = 500\nerror = "{prefix}{name}"\n[[gpus]]\nindex = 1\n'
    bad, good = await file.read(text)
    assert (bad.error is None) != (bad.unknown is None)
    assert (bad.error or bad.unknown) == nvml_errors.sentence(name)
    assert (bad.error is not None) == (name in nvml_errors.BROKEN)
    assert (bad.memory_used_mb, bad.processes) == (None, ())
    assert (good.error, good.unknown, good.memory_used_mb) == (None, None, 0)


@pytest.mark.parametrize("name", sorted(nvml_errors.HOST))
async def test_an_error_of_the_driver_is_the_hosts(file: File, name: str) -> None:
    """An error of the driver is an error of the host, with its remedy."""
    error = await refused(lambda: file.read(f'[[gpus]]\nindex = 0\nerror = "{name}"\n[[gpus]]\nindex = 1\n'))
    assert (error.reason, error.remedy) == (nvml_errors.sentence(name), nvml_errors.remedy(name))


async def test_memory_that_is_not_supported_is_unknown(file: File) -> None:
    """A GPU whose memory is not supported is unknown, and still has its processes."""
    text = f'[[gpus]]\nindex = 0\nerror = "NOT_SUPPORTED"\nprocesses = [{{ pid = {os.getpid()} }}]\n'
    (gpu,) = await file.read(text)
    assert (gpu.error, gpu.unknown, gpu.memory_used_mb, gpu.memory_total_mb) == (None, None, None, None)
    assert len(gpu.processes) == 1


async def test_a_short_hang_is_only_slow(file: File) -> None:
    """A short hang delays the reading."""
    began = time.monotonic()
    assert len(await file.read('[[gpus]]\nindex = 0\nhang = "100ms"\n')) == 1
    assert time.monotonic() - began >= 0.09


async def test_a_long_hang_ends_at_the_deadline(file: File) -> None:
    """A long hang ends after two seconds as an error of the host."""
    began = time.monotonic()
    error = await refused(lambda: file.read('[[gpus]]\nindex = 0\nhang = "1h"\n'))
    assert time.monotonic() - began < 60  # It would hang for an hour.
    assert error.reason == "no answer from the driver in 2 s"
    assert "dmesg" in error.remedy
    assert len(await file.read("[[gpus]]\nindex = 0\n")) == 1


async def test_what_is_only_shown_is_read(file: File) -> None:
    """Utilisation and temperature are as in the file, or not known."""
    shown, silent = await file.read(
        "[[gpus]]\nindex = 0\nutilization_percent = 97\ntemperature_c = 71\n[[gpus]]\nindex = 1\n"
    )
    assert (shown.utilization_percent, shown.temperature_c) == (97, 71)
    assert (silent.utilization_percent, silent.temperature_c) == (None, None)


async def test_the_number_of_a_device_file_is_the_index_unless_it_is_given(file: File) -> None:
    """`minor` is the N of /dev/nvidiaN, also for a GPU with an error."""
    read = await file.read('[[gpus]]\nindex = 0\nminor = 3\nerror = "GPU_IS_LOST"\n[[gpus]]\nindex = 1\n')
    assert [gpu.minor for gpu in read] == [3, 1]
