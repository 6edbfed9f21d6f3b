"""Which GPUs a container gets according to its configuration, and how it gets fewer."""

import copy
from typing import Any

import pytest

from canhazgpu.cli.oci.configuration import Gpus, gpus_of, narrow, variable

DENY = {"allow": False, "access": "rwm"}
HOOK = {"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["x", "prestart"]}]}


def node(minor: int, major: int = 195, **more: Any) -> dict[str, Any]:
    """Return a device."""
    return {"path": f"/dev/x{minor}", "type": "c", "major": major, "minor": minor, **more}


def rule(minor: int | None, major: int | None = 195, access: str = "rwm") -> dict[str, Any]:
    """Return a rule that opens a device."""
    numbers = {"major": major, "minor": minor}
    found = {name: number for name, number in numbers.items() if number is not None}
    return {"allow": True, "type": "c", "access": access, **found}


def spec(*env: str, devices: Any = (), rules: Any = (), mounts: Any = (), **more: Any) -> dict[str, Any]:
    """Return the configuration of a container."""
    linux = {"devices": list(devices), "resources": {"devices": [DENY, *rules]}}
    return {"process": {"env": list(env)}, "linux": linux, "mounts": list(mounts), **more}


def find(path: str) -> tuple[list[int], bool]:
    """Return the device files of a host with two GPUs."""
    return {"/dev": ([0, 1], True), "/dev/nvidia1": ([1], False)}.get(path, ([], True))


def bind(source: str) -> dict[str, Any]:
    """Return a mount of a path of the host."""
    return {"destination": "/x", "source": source, "type": "none", "options": ["rbind"]}


def named(*names: str) -> Gpus:
    """Return GPUs that were named, of which some can be taken away."""
    return Gpus(names=names, narrow=True)


ALL = "NVIDIA_VISIBLE_DEVICES=all"
VISIBLE = "NVIDIA_VISIBLE_DEVICES="


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (spec(), named()),
        (spec(ALL), named()),  # Images say so, and without NVIDIA's programs it means nothing.
        (spec(ALL, hooks=HOOK), named("all")),
        (spec(f"{VISIBLE}0,GPU-1", hooks=HOOK), named("0", "GPU-1")),
        (spec(ALL, f"{VISIBLE}1", hooks=HOOK), named("1")),  # Of two, the last counts.
        (spec(f"{VISIBLE}none", hooks=HOOK), named()),
        (spec(f"{VISIBLE}void", hooks=HOOK), named()),
        (spec(f"{VISIBLE}nvidia.com/gpu=0", hooks=HOOK), named("0")),
        (spec(annotations={"cdi.k8s.io/x": "nvidia.com/gpu=all,other.com/nic=0"}), Gpus(names=("all",))),
        (
            spec(mounts=[{"destination": "/var/run/nvidia-container-devices/GPU-1", "source": "/dev/null"}]),
            Gpus(names=("GPU-1",)),
        ),
        (spec(devices=[node(1), node(255), node(254), node(3, major=1)]), Gpus(devices=(1,), narrow=True)),
        (spec(rules=[rule(0)]), Gpus(devices=(0,), narrow=True)),
        (spec(rules=[rule(0, access="m"), rule(0, major=10)]), named()),
        (spec(rules=[rule(None)]), Gpus(every=True)),
        (spec(rules=[rule(None, major=None)]), Gpus(every=True)),
        (spec(rules=[rule(None), {"allow": False, "access": "rwm"}]), named()),
        (spec(rules=[{"allow": True, "access": "rwm"}]), Gpus(every=True)),  # --privileged
        (spec(rules=[{"allow": True, "type": "a", "major": -1, "minor": -1}]), Gpus(every=True)),
        (spec(rules=[{"allow": True, "type": "a", "major": 1, "minor": 3, "access": "m"}]), Gpus(every=True)),
        (spec(mounts=[bind("/dev/nvidia1")]), Gpus(devices=(1,))),
        (spec(mounts=[bind("/dev")]), named()),  # The rules keep them closed.
        ({"mounts": [bind("/dev")]}, Gpus(devices=(0, 1))),
        ({"process": None, "linux": {"devices": None}, "hooks": {"prestart": None}}, named()),
    ],
)
def test_the_gpus_of_a_container(configuration: dict[str, Any], expected: Gpus) -> None:
    """Variables, annotations, mounts, device files and rules are ways to get a GPU."""
    assert gpus_of(configuration, "runc", find) == expected


@pytest.mark.parametrize("runtime", ["nvidia-container-runtime", "/usr/bin/nvidia-container-runtime.cdi"])
def test_nvidias_runtime_reads_the_variable(runtime: str) -> None:
    """The variable counts without a hook if that runtime is the next one, because it adds the hook."""
    assert gpus_of(spec(ALL), runtime, find) == named("all")


def test_a_narrowed_container_gets_nothing_else() -> None:
    """Other GPUs disappear from the variable, the device files and the rules; other devices stay."""
    before = spec(
        "A=b",
        ALL,
        ALL,
        devices=[node(0), node(1), node(255)],
        rules=[rule(0), rule(1), rule(255)],
        hooks=HOOK,
    )
    after = copy.deepcopy(before)
    narrow(after, ["GPU-b"], [1])
    assert gpus_of(after, "runc", find) == Gpus(names=("GPU-b",), devices=(1,), narrow=True)
    assert after["process"]["env"] == ["A=b", "NVIDIA_VISIBLE_DEVICES=GPU-b"]
    assert after["linux"]["devices"] == [node(1), node(255)]
    assert after["linux"]["resources"]["devices"] == [DENY, rule(1), rule(255)]
    assert variable(after, "NVIDIA_VISIBLE_DEVICES") == "GPU-b"
