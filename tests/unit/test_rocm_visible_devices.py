"""The variables that hide AMD GPUs are read as ROCm reads them; those of a reservation show its GPUs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import AMD, NVIDIA, GpuUsage
from canhazgpu.events.reservations import MANUAL, Record
from canhazgpu.events.spelling.cuda_visible_devices import Card, visible
from canhazgpu.events.spelling.rocm_visible_devices import visible_amd
from canhazgpu.service.reservations.environment import environment

UUIDS = ["GPU-1a2b3c4d5e6f7788", "GPU-1a2baaaaaaaaaaaa", "GPU-99aabbccddeeff00", "PCI-0000-0b-00.0"]
CARDS = [Card(4 + place, uuid, "MI300X", ordinal=place) for place, uuid in enumerate(UUIDS)]


def seen(**variables: str) -> list[int]:
    """Return the places of the GPUs that a HIP program sees."""
    return [index - 4 for index in visible_amd(variables, CARDS)[0]]


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("", []),
        ("2,1", [2, 1]),
        ("0,9,1", [0]),
        ("1,1,2", [1]),
        ("0,,1", [0]),
        (" 3 , 0", [3, 0]),
        ("0x1,02", [1, 2]),
        ("08", []),
        ("-1", []),
        ("1_0", []),
        ("GPU-1a2b3c4d5e6f7788", [0]),
        ("gpu-99AABB,0", [2, 0]),
        ("GPU-1a2b", []),  # Two begin so.
        ("GPU-", []),
        ("GPU-99aabbccddeeff0011", []),  # Longer than any.
        ("PCI-0000-0b-00.0", []),
        ("0,1,2,3,0", [0, 1, 2, 3]),
    ],
)
def test_rocr_visible_devices(listed: str, gpus: list[int]) -> None:
    """ROCr shows the GPUs up to the first entry that is none or was there; an empty value shows none."""
    assert seen(ROCR_VISIBLE_DEVICES=listed) == gpus


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("", [0, 1, 2, 3]),
        ("2,1", [2, 1]),
        ("01", []),
        ("1,x,2", [1]),
        ("1,1,2", [1, 2]),
        ("-1", []),
        ("9,0", []),
    ],
)
def test_hip_visible_devices(listed: str, gpus: list[int]) -> None:
    """HIP shows the GPUs up to the first entry that is none; an empty value has no effect."""
    assert seen(HIP_VISIBLE_DEVICES=listed) == gpus
    assert seen(CUDA_VISIBLE_DEVICES=listed) == gpus


def test_hip_counts_what_rocr_has_left() -> None:
    """The numbers of HIP are places in ROCr's list, and HIP's own variable comes before CUDA's."""
    assert seen(ROCR_VISIBLE_DEVICES="3,1", HIP_VISIBLE_DEVICES="1") == [1]
    assert seen(ROCR_VISIBLE_DEVICES="3,1", HIP_VISIBLE_DEVICES="3") == []
    assert seen(HIP_VISIBLE_DEVICES="0", CUDA_VISIBLE_DEVICES="2") == [0]
    assert seen(ROCR_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="0") == []


def test_the_reason_names_the_variables() -> None:
    """The clause says which variable decided."""
    assert visible_amd({}, CARDS)[1] == "ROCR_VISIBLE_DEVICES is not set, so every AMD GPU is visible"
    assert visible_amd({"ROCR_VISIBLE_DEVICES": ""}, CARDS)[1] == "ROCR_VISIBLE_DEVICES is empty"
    both = {"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "7"}
    assert visible_amd(both, CARDS)[1] == (
        "ROCR_VISIBLE_DEVICES names them; HIP_VISIBLE_DEVICES does not begin with an AMD GPU of this host"
    )


@given(
    st.integers(0, 3),
    st.permutations(UUIDS),
    st.sets(st.integers(0, 3), min_size=1),
    st.permutations(range(4)),
)
def test_a_reservation_shows_its_gpus_and_no_others(
    nvidia: int, uuids: list[str], places: set[int], ordinals: list[int]
) -> None:
    """On every host, HIP sees exactly the reserved AMD GPUs in their order, and CUDA none of NVIDIA's."""
    known = [GpuUsage(index=place, uuid=f"GPU-{place}", name="H100") for place in range(nvidia)]
    amd = [
        GpuUsage(index=nvidia + place, uuid=uuid, name="MI300X", vendor=AMD, ordinal=ordinals[place])
        for place, uuid in enumerate(uuids)
    ]
    reserved = tuple(sorted(nvidia + place for place in places))
    record = Record(id="r1-1", kind=MANUAL, user="ada", uid=1000, gpus=reserved, started_ms=0)
    before = {"HIP_VISIBLE_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "2", "ROCR_VISIBLE_DEVICES": "1,2"}
    variables = before | environment(Settings(), record, {one.index: one for one in [*known, *amd]})
    cards = [Card(one.index, one.uuid, ordinal=one.ordinal) for one in amd]
    assert visible_amd(variables, cards)[0] == reserved
    shown = visible(variables, [Card(one.index, one.uuid) for one in known])
    assert not shown.gpus


@given(st.integers(1, 3), st.integers(1, 3))
def test_a_reservation_of_nvidia_hides_what_amd_has(nvidia: int, amd: int) -> None:
    """On a host with both, CUDA sees the reserved NVIDIA GPUs, and HIP sees none of AMD's."""
    known = [GpuUsage(index=place, uuid=f"GPU-{place}", name="H100") for place in range(nvidia)]
    others = [
        GpuUsage(index=nvidia + place, uuid=UUIDS[place], name="MI300X", vendor=AMD, ordinal=place)
        for place in range(amd)
    ]
    record = Record(id="r1-1", kind=MANUAL, user="ada", uid=1000, gpus=(nvidia - 1,), started_ms=0)
    variables = environment(Settings(), record, {one.index: one for one in [*known, *others]})
    assert visible(variables, [Card(one.index, one.uuid) for one in known]).gpus == (nvidia - 1,)
    assert visible_amd(variables, [Card(one.index, one.uuid, ordinal=one.ordinal) for one in others])[0] == ()


def test_a_host_of_nvidia_gets_no_variables_of_rocm() -> None:
    """Where there is no AMD GPU, nothing is set for one."""
    record = Record(id="r1-1", kind=MANUAL, user="ada", uid=1000, gpus=(0,), started_ms=0)
    known = {0: GpuUsage(index=0, uuid="GPU-0", name="H100", vendor=NVIDIA)}
    assert not {"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"} & environment(Settings(), record, known).keys()
