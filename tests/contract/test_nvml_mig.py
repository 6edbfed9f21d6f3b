"""Cards that are divided into MIG instances: each is a GPU, and what the driver does not say is unknown."""

import os

import pytest
from support.nvml import Say

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading, ProcessUse
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.service.gpus.usage import gpu_usage
from canhazgpu.service.providers.nvml import NvmlProvider

CARD = "gpu GPU-aaaa A100 81559 90 500\nutil 3\n"
SMALL = "mig MIG-1 7 0 9728 12 1g.10gb 0\n"
LARGE = "mig MIG-2 1 0 40192 37 3g.40gb 3\n"
WHOLE = "gpu GPU-bbbb A100 81559 45 500\n"
ME = os.getpid()
pytestmark = pytest.mark.anyio


async def read(provider: NvmlProvider) -> dict[str, GpuReading]:
    """Return the readings by the names that people use."""
    return {spell_gpu(one.index): one for one in await provider.read()}


def state(reading: GpuReading) -> tuple[str, bool]:
    """Return the state of a GPU, and whether it is in use."""
    uses = [ProcessUse(pid=one.pid, name="p", user="u", memory_mb=one.memory_mb) for one in reading.processes]
    usage = gpu_usage(reading, uses, Settings())
    return usage.state, usage.in_use


async def test_each_instance_is_a_gpu(say: Say, provider: NvmlProvider) -> None:
    """An instance has the number of the driver, its UUID, profile and memory, and its card's device file."""
    say(f"{CARD}minor 4\n{SMALL}{LARGE}{WHOLE}")
    gpus = await read(provider)
    assert list(gpus) == ["0", "0:0", "0:3", "1"]
    assert [(one.uuid, one.profile, one.memory_used_mb) for one in gpus.values()] == [
        ("GPU-aaaa", None, None),
        ("MIG-1", "1g.10gb", 12),
        ("MIG-2", "3g.40gb", 37),
        ("GPU-bbbb", None, 45),
    ]
    assert (gpus["0:0"].name, gpus["0:0"].minor, gpus["0:0"].memory_total_mb) == ("A100 MIG 1g.10gb", 4, 9728)
    assert [(one.number, one.uuid, one.profile) for one in gpus["0"].mig] == [
        (0, "MIG-1", "1g.10gb"),
        (3, "MIG-2", "3g.40gb"),
    ]
    assert [one.divided for one in gpus.values()] == [True, None, None, False]
    assert {state(one) for one in gpus.values()} == {("ok", False)}


async def test_use_is_attributed_to_the_instance(say: Say, provider: NvmlProvider) -> None:
    """The processes of a card carry the ids of their instances; the card has none of its own."""
    say(f"{CARD}{SMALL}{LARGE}proc c {ME} 900 1 0\nproc c 1 300 7 0\n")
    gpus = await read(provider)
    assert {name: [(one.pid, one.memory_mb) for one in gpu.processes] for name, gpu in gpus.items()} == {
        "0": [],
        "0:0": [(1, 300)],
        "0:3": [(ME, 900)],
    }


async def test_a_process_on_two_instances_is_on_both(say: Say, provider: NvmlProvider) -> None:
    """Each instance has the memory that the process has there."""
    say(f"{CARD}{SMALL}{LARGE}proc c {ME} 900 1 0\nproc c {ME} 300 7 0\n")
    gpus = await read(provider)
    assert [[one.memory_mb for one in gpus[name].processes] for name in ("0:0", "0:3")] == [[300], [900]]


@pytest.mark.parametrize("code", [3, 4, 999])
async def test_without_the_lists_of_the_card_each_instance_is_asked(
    say: Say, provider: NvmlProvider, code: int
) -> None:
    """NOT_SUPPORTED, NO_PERMISSION or UNKNOWN for the lists of the card: those of the instances count."""
    say(f"{CARD}lists {code}\n{SMALL}{LARGE}proc c {ME} 900 1 0\n")
    gpus = await read(provider)
    assert [one.pid for one in gpus["0:3"].processes] == [ME]
    assert (state(gpus["0:0"]), state(gpus["0:3"])) == (("ok", False), ("ok", True))


@pytest.mark.parametrize(("code", "expected"), [(4, "unknown"), (999, "error"), (15, "error")])
async def test_an_instance_whose_processes_cannot_be_read_is_not_free(
    say: Say, provider: NvmlProvider, code: int, expected: str
) -> None:
    """Neither the card nor the instance says what runs: nothing is guessed."""
    say(f"{CARD}lists 4\nmiglists {code}\n{SMALL}{LARGE}{WHOLE}")
    gpus = await read(provider)
    assert [state(gpus[name])[0] for name in ("0:0", "0:3", "1")] == [expected, expected, "ok"]


async def test_a_process_without_an_instance_makes_all_unknown(say: Say, provider: NvmlProvider) -> None:
    """A driver that does not say where a process runs: every instance may be in use."""
    say(f"{CARD}{SMALL}{LARGE}proc c {ME} 900\n{WHOLE}")
    gpus = await read(provider)
    assert [state(gpus[name])[0] for name in ("0", "0:0", "0:3", "1")] == ["ok", "unknown", "unknown", "ok"]
    assert gpus["0:0"].unknown == f"the driver does not say on which MIG instance process {ME} runs"


@pytest.mark.parametrize(("code", "expected"), [(3, "ok"), (4, "unknown"), (999, "error")])
async def test_an_instance_without_its_memory(
    say: Say, provider: NvmlProvider, code: int, expected: str
) -> None:
    """If memory is not supported, its processes count; if it cannot be read, the instance is not free."""
    say(f"{CARD}{SMALL}migmem {code}\nproc c {ME} -1 7 0\n")
    gpus = await read(provider)
    assert state(gpus["0:0"]) == (expected, expected == "ok")
    say(f"{CARD}{SMALL}migmem {code}\n")
    assert state((await read(provider))["0:0"]) == (expected, False)


async def test_compute_instances_that_share_memory_are_judged_by_processes(
    say: Say, provider: NvmlProvider
) -> None:
    """The memory of a GPU instance says nothing about which of its compute instances is in use."""
    shared = "mig MIG-1 1 0 40192 900 1c.3g.40gb 0\nmig MIG-2 1 1 40192 900 2c.3g.40gb 1\n"
    say(f"{CARD}{shared}proc c {ME} 850 1 1\n")
    gpus = await read(provider)
    assert [state(gpus[name]) for name in ("0:0", "0:1")] == [("ok", False), ("ok", True)]
    assert gpus["0:1"].profile == "2c.3g.40gb"


async def test_a_profile_that_the_name_lacks_is_computed(say: Say, provider: NvmlProvider) -> None:
    """Without a name, the size says the profile."""
    say(f"{CARD}mig MIG-1 7 0 9728 12 - 0\n")
    gpus = await read(provider)
    assert (gpus["0:0"].profile, gpus["0:0"].name) == ("1g.10gb", "A100 MIG 1g.10gb")


async def test_mig_without_instances_is_of_no_use(say: Say, provider: NvmlProvider) -> None:
    """A card in MIG mode runs nothing before it has an instance."""
    say(f"{CARD}migon\n")
    (gpu,) = await provider.read()
    assert (gpu.divided, gpu.unknown) == (True, "MIG is on, but there is no MIG instance")
    assert gpu.remedy == "create instances with `nvidia-smi mig`, or turn MIG off"


async def test_instances_come_and_go(say: Say, provider: NvmlProvider) -> None:
    """Each scan says which instances there are, and when MIG is off again."""
    say(f"{CARD}{SMALL}")
    assert list(await read(provider)) == ["0", "0:0"]
    say(f"{CARD}{LARGE}")
    assert list(await read(provider)) == ["0", "0:3"]
    say(CARD)
    gpus = await read(provider)
    assert (list(gpus), gpus["0"].divided, gpus["0"].memory_used_mb) == (["0"], False, 90)


@pytest.mark.parametrize("fault", ["uuid 15", "handle 15"])
async def test_instances_of_a_lost_card_stay(say: Say, provider: NvmlProvider, fault: str) -> None:
    """A card that does not even tell its UUID is the one that was at its index, unless that is elsewhere."""
    say(f"{CARD}{SMALL}{LARGE}{WHOLE}")
    await provider.read()
    for _ in range(2):
        say(f"{CARD}{fault}\n{SMALL}{LARGE}{WHOLE}")
        gpus = await read(provider)
        assert [one.uuid for one in gpus.values()] == ["unknown-0", "MIG-1", "MIG-2", "GPU-bbbb"]
        assert [state(one)[0] for one in gpus.values()] == ["error"] * 3 + ["ok"]
    say(f"{WHOLE}{fault}\n{CARD}{SMALL}{LARGE}")
    assert list(await read(provider)) == ["0", "1", "1:0", "1:3"]
    say(f"{CARD}{WHOLE}")
    assert list(await read(provider)) == ["0", "1"]


@pytest.mark.parametrize("fault", ["memory 15", "migmode 999", "migon\nmighandle 5 4"])
async def test_instances_stay_until_the_driver_says_that_they_are_gone(
    say: Say, provider: NvmlProvider, fault: str
) -> None:
    """A card that cannot be read has not lost its instances: they are what it is."""
    say(f"{CARD}{SMALL}{LARGE}")
    await provider.read()
    listed = f"{SMALL}{LARGE}" if fault == "memory 15" else ""
    say(f"{CARD}{fault}\n{listed}{WHOLE}")
    gpus = await read(provider)
    assert [(one.uuid, one.divided) for one in gpus.values()] == [
        ("GPU-aaaa", None),
        ("MIG-1", None),
        ("MIG-2", None),
        ("GPU-bbbb", False),
    ]
    expected = "error" if fault.endswith("15") else "unknown"
    assert [state(gpus[name])[0] for name in ("0", "0:0", "0:3", "1")] == [expected] * 3 + ["ok"]


async def test_an_instance_that_cannot_be_opened_hides_no_other(say: Say, provider: NvmlProvider) -> None:
    """Its card says which one, and why; the others are read."""
    say(f"{CARD}{SMALL}mighandle 5 4\n")
    gpus = await read(provider)
    assert gpus["0"].unknown == "its MIG instance 5 cannot be read: Insufficient Permissions"
    assert state(gpus["0:0"]) == ("ok", False)


@pytest.mark.parametrize("pid", [0, 4294967295])
async def test_a_garbage_list_makes_the_card_unknown(say: Say, provider: NvmlProvider, pid: int) -> None:
    """An impossible PID makes the whole list invalid."""
    say(f"{CARD}{SMALL}")
    await provider.read()
    say(f"{CARD}{SMALL}proc c {pid} 10 7 0\n")
    gpus = await read(provider)
    assert [state(gpus[name])[0] for name in ("0", "0:0")] == ["unknown", "unknown"]
