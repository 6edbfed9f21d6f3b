"""Of which vendor the GPUs of a request are, and which provider reads a host's GPUs."""

from pathlib import Path

import anyio
import pytest

from canhazgpu.events.gpu import AMD, NVIDIA, GpuReading, GpuUsage, Vendor
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.vendor_choice import all_gpus, vendor_of
from canhazgpu.service.providers import detection
from canhazgpu.service.providers.both_vendors import BothVendors
from canhazgpu.service.providers.provider import ProviderError

BOTH = {
    index: GpuUsage(index=index, uuid=f"GPU-{index}", name="", vendor=vendor)
    for index, vendor in enumerate((NVIDIA, NVIDIA, AMD, AMD))
}
ONLY_AMD = {2: BOTH[2], 3: BOTH[3]}


@pytest.mark.parametrize(
    ("asked", "known", "default", "vendor"),
    [
        (None, BOTH, NVIDIA, NVIDIA),
        (None, BOTH, AMD, AMD),
        (AMD, BOTH, NVIDIA, AMD),
        (AMD, ONLY_AMD, NVIDIA, None),  # There is nothing to choose.
        (None, ONLY_AMD, NVIDIA, None),
        (AMD, {}, NVIDIA, AMD),  # Nothing is known yet.
        (None, {}, NVIDIA, None),
    ],
)
def test_the_vendor_of_a_number_of_gpus(
    asked: Vendor | None, known: dict[int, GpuUsage], default: Vendor, vendor: Vendor | None
) -> None:
    """Without a wish, the setting decides on a host with both; with one vendor there is no choice."""
    assert vendor_of(asked, None, known, default) == vendor


@pytest.mark.parametrize(
    ("asked", "gpus", "known", "said"),
    [
        (NVIDIA, None, ONLY_AMD, "this host has no NVIDIA GPU"),
        (None, [1, 2], BOTH, "a reservation has GPUs of one vendor, not GPU 1 of NVIDIA and GPU 2 of AMD"),
        (AMD, [1, 2], BOTH, "GPU 1 is not an AMD GPU"),
        (AMD, [0, 1], BOTH, "GPUs 0,1 are not AMD GPUs"),
    ],
)
def test_what_cannot_be_had_is_refused(
    asked: Vendor | None, gpus: list[int] | None, known: dict[int, GpuUsage], said: str
) -> None:
    """A vendor that the host does not have, and GPUs of different vendors, are refused with the reason."""
    with pytest.raises(Problem) as refused:
        vendor_of(asked, gpus, known, NVIDIA)
    assert refused.value.detail == said


def test_named_gpus_need_no_choice() -> None:
    """Named GPUs of one vendor are what is asked for; unknown ones are refused elsewhere."""
    assert vendor_of(AMD, [2, 3], BOTH, NVIDIA) is None
    assert vendor_of(None, [2, 9], BOTH, NVIDIA) is None


def test_all_gpus_of_a_vendor() -> None:
    """`all` means the managed GPUs, or those of them that the vendor made."""
    assert all_gpus(None, [0, 2], BOTH) == [0, 2]
    assert all_gpus(AMD, [0, 2], BOTH) == [2]
    for managed in ([], [0, 1]):
        with pytest.raises(Problem):
            all_gpus(AMD, managed, BOTH)


@pytest.mark.parametrize(
    ("present", "provider"),
    [
        ({"amdsmi"}, "nvml"),
        ({"nvidia", "amdsmi"}, "nvml"),
        ({"amd"}, "amdsmi"),
        ({"amd", "nvidia", "amdsmi"}, "nvml+amdsmi"),
        ({"amd", "nvidia"}, "nvml"),  # A small GPU in the processor; nobody asked for it.
    ],
)
def test_the_drivers_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: set[str], provider: str
) -> None:
    """`auto` reads the GPUs whose driver is loaded, and AMD's beside NVIDIA's only with its package."""
    for node, number in (("0", "0"), ("1", "51140" if "amd" in present else "0")):  # The processor is first.
        (tmp_path / "nodes" / node).mkdir(parents=True)
        (tmp_path / "nodes" / node / "gpu_id").write_text(f"{number}\n")
    version = tmp_path / "version"
    if "nvidia" in present:
        version.touch()
    monkeypatch.setattr(detection, "find_spec", lambda name: name if name in present else None)
    assert detection.detected_provider(tmp_path / "nodes", (version,)) == provider
    assert detection.detected_provider(tmp_path / "none", (version,)) == "nvml"


class Driver:
    """A provider that answers as it is told."""

    name = "driver"

    def __init__(self, vendor: Vendor, count: int) -> None:
        """Begin with this many GPUs."""
        self.vendor, self.count, self.fails = vendor, count, False

    async def read(self) -> tuple[GpuReading, ...]:
        """Return them, or fail."""
        if self.fails:
            raise ProviderError(f"{self.vendor} is away", "bring it back")
        return tuple(
            GpuReading(index=index, uuid=f"{self.vendor}-{index}", name="", vendor=self.vendor)
            for index in range(self.count)
        )

    async def aclose(self) -> None:
        """Do nothing."""


def test_the_gpus_of_both_have_indices_of_their_own() -> None:
    """NVIDIA's GPUs keep NVML's indices, and AMD's follow."""
    host = BothVendors(Driver(NVIDIA, 2), Driver(AMD, 2))
    found = anyio.run(host.read)
    assert [(gpu.index, gpu.uuid) for gpu in found] == [
        (0, "nvidia-0"),
        (1, "nvidia-1"),
        (2, "amd-0"),
        (3, "amd-1"),
    ]
    anyio.run(host.aclose)


@pytest.mark.parametrize("vendor", [NVIDIA, AMD])
def test_a_driver_that_fails_hides_no_gpus_of_the_other(vendor: Vendor) -> None:
    """If one driver fails, its GPUs are unknown at their indices, and the others are read."""
    nvidia, amd = Driver(NVIDIA, 2), Driver(AMD, 1)
    host = BothVendors(nvidia, amd)
    anyio.run(host.read)
    (nvidia if vendor == NVIDIA else amd).fails = True
    found = anyio.run(host.read)
    assert [gpu.uuid for gpu in found] == ["nvidia-0", "nvidia-1", "amd-0"]
    assert [gpu.index for gpu in found] == [0, 1, 2]
    assert {gpu.unknown for gpu in found if gpu.vendor == vendor} == {f"{vendor} is away"}
    assert {gpu.unknown for gpu in found if gpu.vendor != vendor} == {None}
    nvidia.fails = amd.fails = True
    with pytest.raises(ProviderError):
        anyio.run(host.read)


def test_before_both_have_answered_no_index_is_known() -> None:
    """If a driver has never answered, the indices of the other one are not known, so the host is not read."""
    nvidia, amd = Driver(NVIDIA, 2), Driver(AMD, 1)
    nvidia.fails = True
    host = BothVendors(nvidia, amd)
    with pytest.raises(ProviderError, match="nvidia is away"):
        anyio.run(host.read)
