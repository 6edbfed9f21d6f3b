"""Whether a container may start on the GPUs that it asks for."""

from typing import Any

import msgspec
import pytest

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import MANUAL, Record
from canhazgpu.service.containers.decision import Asked, Decision, Starter, decide
from canhazgpu.service.storage.snapshot import GpuState, Snapshot

ADA = Record(id="r1-1", kind=MANUAL, user="ada", uid=1000, gpus=(0, 2), started_ms=0)
BOB = Record(id="r2-1", kind=MANUAL, user="bob", uid=1001, gpus=(1,), started_ms=0)
LEFT, RIGHT = 3 * 1024, 3 * 1024 + 1  # The MIG instances of GPU 2.


def host(*, unmanaged: int | None = None, records: tuple[Record, ...] = (ADA, BOB)) -> Snapshot:
    """Return four GPUs whose device files count the other way round; 0 and 2 are Ada's, 1 is Bob's."""
    holders = {gpu: record for record in records for gpu in record.gpus}
    gpus = tuple(
        GpuState(
            usage=GpuUsage(
                index=index,
                uuid=f"GPU-{index}{index}{index}{index}-0000",
                name="H100",
                minor=3 - index,
            ),
            reservation=holders.get(index),
            unmanaged=index == unmanaged,
        )
        for index in range(4)
    )
    return Snapshot(
        now_ms=0, scanned_ms=0, stalled_ms=None, stalled_reason="", gpus=gpus, reservations=records
    )


def ada(*run: int, **facts: Any) -> Starter:
    """Return Ada, with the token of a run on some GPUs if any are named."""
    return Starter(
        user="ada",
        is_own=lambda record: record.user == "ada",
        run_gpus=frozenset(run) if run else None,
        **facts,
    )


NOBODY = Starter(user=None, is_own=lambda _: False)


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        (Asked(names=("0",)), (0,)),
        (Asked(names=("2", "0")), (0, 2)),
        (Asked(names=("GPU-0000-0000",)), (0,)),
        (Asked(names=("gpu-2222",)), (2,)),
        (Asked(devices=(3,)), (0,)),
        (Asked(devices=(1,), names=("0",)), (0, 2)),
        (Asked(), ()),
    ],
)
def test_the_holders_container_starts(asked: Asked, gpus: tuple[int, ...]) -> None:
    """A GPU is named by its index, its UUID, or the number of its device file."""
    assert decide(asked, ada(), host()) == Decision(gpus=gpus)


def divided(*held: int) -> Snapshot:
    """Return the host with GPU 2 divided into two MIG instances, of which Ada holds some GPUs."""
    whole = host(records=())
    record = Record(id="r3-1", kind=MANUAL, user="ada", uid=1000, gpus=held, started_ms=0)
    parts = tuple(
        GpuState(usage=GpuUsage(index=index, uuid=f"MIG-{index}aaaa", name="H100 MIG", minor=1))
        for index in (LEFT, RIGHT)
    )
    gpus = tuple(
        msgspec.structs.replace(gpu, reservation=record if gpu.usage.index in held else None)
        for gpu in (*whole.gpus, *parts)
    )
    return msgspec.structs.replace(whole, gpus=gpus, reservations=(record,))


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        (Asked(names=(f"MIG-{LEFT}aaaa",)), (LEFT,)),
        (Asked(names=("2:0",)), (LEFT,)),
        (Asked(names=("2:0",), devices=(1,)), (LEFT,)),  # It opens the device file of its GPU, too.
    ],
)
def test_a_container_with_an_instance(asked: Asked, gpus: tuple[int, ...]) -> None:
    """Its holder may start it, and who holds the whole GPU may; nobody else."""
    assert decide(asked, ada(), divided(LEFT)) == Decision(gpus=gpus)
    assert decide(asked, ada(), divided(2, LEFT, RIGHT)) == Decision(gpus=gpus)
    refused = decide(asked, ada(), divided(RIGHT))
    assert refused.reason == "ada has not reserved its GPUs (GPU 2:0: not reserved)"
    assert refused.remedy == "ada has GPU 2:1: ask for it only"


@pytest.mark.parametrize("asked", [Asked(names=("2",)), Asked(devices=(1,)), Asked(names=("GPU-2222",))])
def test_a_container_with_a_divided_gpu_has_all_of_its_instances(asked: Asked) -> None:
    """One instance is not enough for the device file or the name of the whole."""
    assert decide(asked, ada(), divided(2, LEFT, RIGHT)) == Decision(gpus=(LEFT, RIGHT))
    assert (
        decide(asked, ada(), divided(LEFT)).reason == "ada has not reserved its GPUs (GPU 2:1: not reserved)"
    )


def test_all_device_files_are_not_narrowed_to_an_instance() -> None:
    """The file of a divided GPU opens all instances whose own files the container has: all are taken."""
    everything = Asked(devices=(0, 1, 2, 3), narrow=True)
    refused = decide(everything, ada(), divided(LEFT))
    assert "GPU 2:1: not reserved" in str(refused.reason)
    assert refused.remedy == "ada has GPU 2:0: ask for it only"
    assert decide(everything, ada(), divided(0, LEFT)).only == (0,)
    assert decide(everything, ada(), divided(2, LEFT, RIGHT)).only == (LEFT, RIGHT)
    assert decide(Asked(names=("all",), narrow=True), ada(), divided(LEFT)).only == (LEFT,)


@pytest.mark.parametrize(
    ("asked", "gpus", "said"),
    [
        (Asked(names=("1",)), (1,), "GPU 1: reserved by bob"),
        (Asked(names=("0", "3")), (0, 3), "GPU 3: not reserved"),
        (Asked(devices=(2,)), (1,), "GPU 1: reserved by bob"),
        (Asked(names=("all",)), (0, 1, 2, 3), "GPU 1: reserved by bob; GPU 3: not reserved"),
        (Asked(every=True, narrow=True), (0, 1, 2, 3), "GPU 1: reserved by bob; GPU 3: not reserved"),
        (Asked(names=("7",)), (), "7, which canhazgpu does not know"),
        (Asked(names=("GPU-",)), (), "GPU-, which canhazgpu does not know"),
        (Asked(devices=(9,)), (), "/dev/nvidia9, which canhazgpu does not know"),
    ],
)
def test_other_gpus_are_refused_with_the_reason(asked: Asked, gpus: tuple[int, ...], said: str) -> None:
    """The reason names the GPUs that are missing and who has them."""
    found = decide(asked, ada(), host())
    assert found.gpus == gpus
    assert said in str(found.reason)
    assert found.remedy


def test_nobody_gets_nothing() -> None:
    """If nothing proves who started a container, it gets no managed GPU, not even a free one."""
    for name in ("0", "3", "all"):
        found = decide(Asked(names=(name,), narrow=True), NOBODY, host())
        assert "nothing proves that a holder started it" in str(found.reason)


def test_all_is_narrowed_to_the_run_or_to_what_its_user_holds() -> None:
    """Of all GPUs, a container gets those of the run that passed its token on, else those of its user."""
    everything = Asked(names=("all",), narrow=True)
    assert decide(everything, ada(2), host()) == Decision(gpus=(2,), only=(2,))
    assert decide(everything, ada(), host()) == Decision(gpus=(0, 2), only=(0, 2))
    nodes = Asked(devices=(0, 1, 2, 3), narrow=True)
    assert decide(nodes, ada(0), host()) == Decision(gpus=(0,), only=(0,))


def test_named_gpus_are_not_narrowed() -> None:
    """Who names another GPU gets a refusal, not silently another GPU."""
    assert decide(Asked(names=("1",), narrow=True), ada(0), host()).reason
    assert decide(Asked(devices=(2, 3), narrow=True), ada(0), host()).reason


def test_gpus_that_are_not_managed_are_free_for_everybody() -> None:
    """A GPU that canhazgpu does not manage needs no reservation."""
    assert decide(Asked(names=("3",)), NOBODY, host(unmanaged=3)) == Decision(gpus=())


def test_exempt_users_get_every_gpu() -> None:
    """The users of violations.exempt_users need no reservation."""
    assert decide(Asked(names=("1",)), ada(exempt=True), host()).reason is None


def test_a_reservation_that_has_ended_does_not_count() -> None:
    """While a run lingers, no new container starts on its GPUs."""
    over = Record(id="r1-1", kind="run", user="ada", uid=1000, gpus=(0,), started_ms=0, ended_ms=9)
    assert decide(Asked(names=("0",)), ada(), host(records=(over,))).reason
