"""Which GPUs the kubelet is offered, and which reservations follow from its list of pods."""

from typing import Any

import pytest

from canhazgpu.cli.kubernetes.devices import Device, Held, devices_of, only_held
from canhazgpu.cli.kubernetes.pods import LONGEST, Pods, short
from canhazgpu.cli.kubernetes.reconcile import EMPTY, SETTLED, Plan, Reconciliation

HELD = Held("r1", "ml/a")
POD = {"kind": "kubernetes", "id": "r1", "label": "pod ml/a"}
OTHERS = Pods({}, any=True)
NOTHING = Pods({}, any=False)


def row(status: str, **facts: Any) -> dict[str, Any]:
    """Return a row of the status."""
    common = {"gpu_id": 0, "uuid": "GPU-a", "minor": 3, "in_use": False, "reservation": None}
    return {**common, "status": status, **facts}


def device(held: Held | None = HELD, *, in_use: bool = False) -> Device:
    """Return a GPU that a pod holds."""
    return Device("GPU-a", 3, healthy=True, in_use=in_use, held=held)


@pytest.mark.parametrize(
    ("status", "reservation", "healthy"),
    [
        ("AVAILABLE", None, True),
        ("IN_USE", POD, True),
        ("IN_USE", {"kind": "run", "id": "r1", "label": None}, False),
        ("UNRESERVED", None, False),
        ("DRAINED", None, False),
        ("ERROR", POD, False),
        ("UNKNOWN", None, False),
    ],
)
def test_free_gpus_and_those_of_pods_are_healthy(status: str, reservation: Any, *, healthy: bool) -> None:
    """Every other state makes a GPU unhealthy."""
    (found,) = devices_of([row(status, reservation=reservation)])
    assert found.healthy is healthy
    assert found.held == (HELD if reservation is POD else None)


def test_gpus_that_are_not_managed_or_have_no_device_file_are_not_offered() -> None:
    """They are left out of the list."""
    rows = [row("UNMANAGED"), row("AVAILABLE", minor=None), row("AVAILABLE", uuid="")]
    assert devices_of(rows) == ()


def test_mig_instances_and_divided_gpus_are_not_offered() -> None:
    """Also by an older service, which has no rows of instances."""
    instance = row("AVAILABLE", gpu_id=1024, parent=0, uuid="MIG-0", in_use=True)
    assert devices_of([row("PARTITIONED", instances=[1024]), instance]) == ()
    assert devices_of([row("AVAILABLE", mig=[{"uuid": "MIG-0"}])]) == ()
    assert len(devices_of([row("AVAILABLE", instances=[], mig=[])])) == 1


def test_a_gpu_that_was_divided_while_a_pod_held_it_is_released() -> None:
    """It is listed as unhealthy until then, and in use while one of its instances is."""
    card = row("IN_USE", reservation=POD, instances=[1024])
    for in_use in (True, False):
        instance = row("IN_USE", gpu_id=1024, parent=0, uuid="MIG-0", in_use=in_use, reservation=POD)
        (found,) = devices_of([card, instance])
        assert found == Device("GPU-a", 3, healthy=False, in_use=in_use, held=HELD, is_divided=True)


def test_without_a_service_only_gpus_of_pods_stay_healthy() -> None:
    """A GPU that was free is unhealthy, one that a pod holds is as before."""
    assert [one.healthy for one in only_held([device(None), device()])] == [False, True]


def test_a_pod_that_is_listed_names_its_reservation() -> None:
    """The label follows the list, once."""
    pods = Pods({"GPU-a": "ml/b"}, any=True)
    assert Reconciliation().plan([device()], pods, 0) == Plan(label=((HELD, "ml/b"),))
    assert Reconciliation().plan([device(Held("r1", "ml/b"))], pods, 0).is_empty


def test_a_pod_without_a_reservation_gets_one() -> None:
    """It is reserved in the pod's name."""
    free = device(None)
    plan = Reconciliation().plan([free], Pods({"GPU-a": "ml/b"}, any=True), 0)
    assert plan == Plan(reserve=((free, "ml/b"),))


@pytest.mark.parametrize(("pods", "patience"), [(OTHERS, SETTLED), (NOTHING, EMPTY)])
def test_a_gpu_is_released_when_it_has_not_been_listed_for_a_while(pods: Pods, patience: float) -> None:
    """The time is longer if the kubelet lists no pod at all."""
    known = Reconciliation()
    assert known.is_settled()
    assert known.plan([device()], pods, 100).is_empty
    assert not known.is_settled()
    assert known.plan([device()], pods, 99.9 + patience).is_empty
    assert known.plan([device()], pods, 100 + patience) == Plan(release=(device(),))


def test_the_time_begins_again_with_an_allocation_and_with_each_list_that_has_the_gpu() -> None:
    """A GPU that was given to another pod meanwhile is kept."""
    known = Reconciliation()
    known.plan([device()], OTHERS, 0)
    known.plan([device()], Pods({"GPU-a": "ml/a"}, any=True), 5)
    assert known.plan([device()], OTHERS, SETTLED).is_empty
    known.allocated(["GPU-a"])
    assert known.plan([device()], OTHERS, 2 * SETTLED).is_empty
    assert known.plan([device()], OTHERS, 3 * SETTLED) == Plan(release=(device(),))


def test_a_gpu_in_use_is_not_released() -> None:
    """It is released when nothing uses it."""
    known = Reconciliation()
    known.plan([device()], OTHERS, 0)
    assert known.plan([device(in_use=True)], OTHERS, SETTLED).is_empty
    assert known.plan([device()], OTHERS, SETTLED) == Plan(release=(device(),))


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    """It has the length that a label may have."""
    name = f"namespace/{'a' * 60}-x7k2p"
    assert len(short(name)) == LONGEST
    assert short(name).startswith("namespace/a")
    assert short(name).endswith("a-x7k2p")
    assert short("ml/a") == "ml/a"
