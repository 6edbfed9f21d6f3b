"""Values that a driver does not support are not errors, and values that are only displayed may fail."""

import os

import pytest
from support.nvml import Say

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading, GpuUsage, ProcessUse
from canhazgpu.service.gpus.usage import NOTHING_REPORTED, gpu_usage
from canhazgpu.service.providers.nvml import NvmlProvider

pytestmark = pytest.mark.anyio
ME = os.getpid()
HOST_MB = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
GB10 = "gpu GPU-aaaa NVIDIA-GB10 0 0 0\nmemory 3\nbar1 3\nbusy 0\n"
H100 = "gpu GPU-aaaa H100 81559 45 500\n"


def judged(reading: GpuReading) -> GpuUsage:
    """Return the usage of a reading; every process is bob's."""
    uses = [
        ProcessUse(pid=one.pid, name="python3", user="bob", memory_mb=one.memory_mb)
        for one in reading.processes
    ]
    return gpu_usage(reading, uses, Settings(host="h"))


@pytest.mark.parametrize(
    "card",
    [
        GB10,
        "gpu GPU-aaaa Thor 0 0 0\nbar1 3\nbusy 0\n",
        f"gpu GPU-aaaa NVIDIA-GB10 {HOST_MB} 9000 0\nbar1 3\nbusy 0\n",
        f"gpu GPU-aaaa NVIDIA-GB10 {HOST_MB} 9000 0\nbar1 3\nbusy 0\nmemory2 3\n",
        GB10 + "util 3\n",
        GB10 + "busy 5\n",
    ],
    ids=["not-supported", "nothing", "the-hosts", "the-hosts-by-v1", "no-utilisation", "housekeeping"],
)
async def test_a_gpu_without_memory_of_its_own_is_judged_by_its_processes(
    say: Say, provider: NvmlProvider, card: str
) -> None:
    """A GPU without memory of its own is idle without a process, and in use with any."""
    say(card)
    (gpu,) = await provider.read()
    assert (gpu.memory_total_mb, gpu.memory_used_mb) == (None, None)
    assert (judged(gpu).state, judged(gpu).in_use) == ("ok", False)
    for memory in (1, -1):
        say(f"{card}proc c {ME} {memory}\n")
        (gpu,) = await provider.read()
        assert (judged(gpu).in_use, judged(gpu).users) == (True, ("bob",))


async def test_work_without_a_process_is_use_where_memory_is_not_reported(
    say: Say, provider: NvmlProvider
) -> None:
    """Work without a process counts as use only if the GPU reports no memory."""
    say(GB10 + "busy 6\n" + "gpu GPU-bbbb H100 81559 45 500\nbusy 100\n")
    shared, own = map(judged, await provider.read())
    assert (shared.in_use, shared.users) == (True, ("unknown",))
    assert not own.in_use


async def test_as_much_memory_as_the_host_has_is_a_cards_own_where_it_has_a_window_to_it(
    say: Say, provider: NvmlProvider
) -> None:
    """A discrete card with as much memory as the host is judged by its memory."""
    say(f"gpu GPU-aaaa RTX {HOST_MB} 9000 0\nbusy 0\n")
    (gpu,) = await provider.read()
    assert (gpu.memory_total_mb, gpu.memory_used_mb) == (HOST_MB, 9000)
    assert judged(gpu).in_use


@pytest.mark.parametrize("code", [4, 10, 17, 999])
@pytest.mark.parametrize("answers", ["memory {}", "memory 3\nmemory2 {}"])
async def test_memory_that_fails_is_never_called_idle(
    say: Say, provider: NvmlProvider, answers: str, code: int
) -> None:
    """If reading the memory fails, the GPU is ERROR or UNKNOWN, never idle."""
    say(f"{H100}{answers.format(code)}\n")
    (gpu,) = await provider.read()
    assert judged(gpu).state != "ok"
    assert judged(gpu).reason


@pytest.mark.parametrize("code", [2, 3, 13, 25, 999])
async def test_a_driver_without_the_second_version_is_asked_by_the_first(
    say: Say, provider: NvmlProvider, code: int
) -> None:
    """A driver without memory info of version 2 is read with version 1."""
    say(f"{H100}memory2 {code}\n")
    (gpu,) = await provider.read()
    assert gpu.memory_used_mb == 545


@pytest.mark.parametrize("lists", ["lists 3", "compute 3"])
async def test_without_memory_and_processes_nothing_is_known(
    say: Say, provider: NvmlProvider, lists: str
) -> None:
    """A GPU that reports neither memory nor processes is UNKNOWN, with that reason."""
    say(f"{GB10}{lists}\n{H100}{lists}\n")
    nothing, memory = map(judged, await provider.read())
    assert (nothing.state, nothing.reason, nothing.in_use) == ("unknown", NOTHING_REPORTED, False)
    assert (memory.state, memory.in_use) == ("ok", False)


@pytest.mark.parametrize("lists", ["graphics 3", "mps 3", "mps 2", "mps 13"])
async def test_a_kind_of_list_that_a_driver_does_not_have_hides_no_other(
    say: Say, provider: NvmlProvider, lists: str
) -> None:
    """A missing list of graphics or MPS processes does not hide the compute processes."""
    say(f"{GB10}{lists}\nproc c {ME} 100\n")
    (gpu,) = await provider.read()
    assert [one.pid for one in gpu.processes] == [ME]


@pytest.mark.parametrize("kind", ["compute", "graphics", "mps"])
@pytest.mark.parametrize("code", [4, 999])
async def test_a_list_that_fails_makes_the_gpu_unknown(
    say: Say, provider: NvmlProvider, kind: str, code: int
) -> None:
    """If listing processes fails, the GPU is unknown."""
    say(f"{H100}{kind} {code}\n")
    (gpu,) = await provider.read()
    assert judged(gpu).state != "ok"


@pytest.mark.parametrize("kind", ["compute", "graphics"])
async def test_a_driver_too_old_to_list_processes_says_so(
    say: Say, provider: NvmlProvider, kind: str
) -> None:
    """A driver without a function to list compute processes makes the GPU unusable, with NVML's reason."""
    say(f"{H100}{kind} 13\n")
    (gpu,) = await provider.read()
    assert judged(gpu).reason == "Function Not Found"


@pytest.mark.parametrize(
    "fault",
    [
        "util 3",
        "util 999",
        "util 15",
        "name 3",
        "name 999",
        "migmode 999",
    ],
)
async def test_what_is_only_shown_fails_nothing(say: Say, provider: NvmlProvider, fault: str) -> None:
    """Name, utilisation and the MIG mode may fail without making the GPU unusable."""
    say(f"{H100}{fault}\n")
    (gpu,) = await provider.read()
    assert (gpu.error, gpu.unknown, gpu.uuid, gpu.memory_used_mb) == (None, None, "GPU-aaaa", 45)
    assert not judged(gpu).in_use


async def test_a_name_that_is_no_utf8_is_spelled_out(say: Say, provider: NvmlProvider) -> None:
    """A name that is not UTF-8 is escaped."""
    say("gpu GPU-aaaa H\udcff100 81559 45 500\n")
    (gpu,) = await provider.read()
    assert (gpu.name, gpu.error, gpu.unknown) == ("H\\xff100", None, None)


# What the driver of a virtual GPU's guest leaves out.
VGPU = "gpu GPU-aaaa GRID-A100-10C 10240 {used} 0\nbar1 3\nutil 3\ngraphics 3\nmps 3\n"
PARTS = {
    "vgpu": (VGPU, "GRID-A100-10C"),
    "vgpu-without-lists": (VGPU + "compute 3\n", "GRID-A100-10C"),
    "vgpu-without-a-name": (VGPU + "name 3\n", "unknown"),
}


@pytest.mark.parametrize(("card", "name"), PARTS.values(), ids=PARTS)
async def test_a_virtual_gpu_is_judged_by_what_it_reports(
    say: Say, provider: NvmlProvider, card: str, name: str
) -> None:
    """Idle without use; in use by the memory of the device, or by a process whose memory is not reported."""
    say(card.format(used=12))
    (gpu,) = await provider.read()
    assert (gpu.error, gpu.unknown, gpu.name, gpu.utilization_percent) == (None, None, name, None)
    assert (judged(gpu).state, judged(gpu).in_use) == ("ok", False)
    say(card.format(used=5000))
    (gpu,) = await provider.read()
    assert (judged(gpu).in_use, judged(gpu).users, judged(gpu).memory_mb) == (True, ("unknown",), 5000)
    say(f"{card.format(used=12)}proc c {ME} -1\n")
    (gpu,) = await provider.read()
    listed = "compute 3" not in card
    assert [(one.pid, one.memory_mb) for one in gpu.processes] == [(ME, None)] * listed
    assert judged(gpu).users == ("bob",) * listed


@pytest.mark.parametrize("fault", ["uuid 3", "uuid 999", "uuid 4"])
async def test_a_gpu_without_identity_is_not_handed_out(say: Say, provider: NvmlProvider, fault: str) -> None:
    """A GPU without a UUID is ERROR or UNKNOWN."""
    say(f"{H100}{fault}\n")
    (gpu,) = await provider.read()
    assert gpu.error or gpu.unknown
    assert (gpu.uuid, gpu.name) == ("unknown-0", "H100")


@pytest.mark.parametrize("code", [3, 15, 999])
async def test_a_temperature_that_cannot_be_read_fails_no_card(
    say: Say, provider: NvmlProvider, code: int
) -> None:
    """Whatever the driver answers for the temperature, everything else of the card is read."""
    say(f"{H100}temp {code}\n{H100.replace('aaaa', 'bbbb')}warm 83\n")
    cold, warm = await provider.read()
    assert (cold.error, cold.unknown, cold.memory_used_mb) == (None, None, 45)
    assert (cold.temperature_c, warm.temperature_c) == (None, 83)
