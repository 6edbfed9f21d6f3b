"""What the plugin and the service agree on: which GPUs pods can have, and whose they are until they end."""

import subprocess
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.daemon import COMMAND, until, use
from support.kubelet import RESOURCE, Node, cards, plugin_inside
from support.people import Person

from canhazgpu.cli.kubernetes import plugin
from canhazgpu.client import Client

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
ALL = {f"GPU-{index}" for index in range(4)}


def test_the_plugin_registers_and_offers_free_gpus(node: Node) -> None:
    """The kubelet learns the resource, the version and the socket, and that all GPUs are healthy."""
    (request,) = node.kubelet.registrations
    assert (request.version, request.resource_name) == ("v1beta1", RESOURCE)
    assert request.endpoint == "canhazgpu.sock"
    until(lambda: node.kubelet.healthy() == ALL)


def test_gpus_of_others_are_unhealthy(node: Node, people: list[Person]) -> None:
    """A reservation and use without one make a GPU unhealthy, and their end makes it healthy again."""
    assert node.daemon.run("reserve", "--gpu-ids", "0", person=people[0]).returncode == 0
    until(lambda: node.kubelet.healthy() == ALL - {"GPU-0"})
    process = people[0].spawn("sleep", "600")
    node.daemon.place(*cards(gpu1=use(process.pid, 900)))
    until(lambda: node.kubelet.healthy() == ALL - {"GPU-0", "GPU-1"})
    node.daemon.place(*cards())
    assert node.daemon.run("release", person=people[0]).returncode == 0
    until(lambda: node.kubelet.healthy() == ALL)


def test_the_kubelet_is_told_at_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of the service wake the plugin, which otherwise looks only now and then."""
    for name in ("TURN", "CALM"):
        monkeypatch.setattr(plugin, name, 3600.0)
    monkeypatch.setenv("CANHAZGPU_SOCKET", str(node.daemon.folder / "s"))
    with plugin_inside(node):
        until(lambda: node.kubelet.healthy() == ALL)
        assert node.daemon.run("reserve", "--gpu-ids", "0").returncode == 0
        until(lambda: node.kubelet.healthy() == ALL - {"GPU-0"})


def test_a_pod_holds_its_gpus_until_it_ends(node: Node) -> None:
    """Each GPU is reserved with the pod's name, stays healthy, and is released when the pod is gone."""
    answer = node.kubelet.admit("ml/train-0", 2)
    assert dict(answer.envs) == {"NVIDIA_VISIBLE_DEVICES": "GPU-0,GPU-1"}
    assert set(node.held()) == {0, 1}
    until(lambda: node.held() == {0: "pod ml/train-0", 1: "pod ml/train-0"})
    assert "GPU 0: IN USE by root (pod ml/train-0) for" in node.daemon.status()
    assert node.kubelet.healthy() == ALL
    del node.kubelet.pods["ml/train-0"]
    until(lambda: node.held() == {}, 30)
    until(lambda: node.daemon.status().count("AVAILABLE") == 4)
    until(lambda: node.kubelet.healthy() == ALL)


def test_run_takes_nothing_that_a_pod_has(node: Node, people: list[Person]) -> None:
    """`run` gets the other GPUs, and is refused if there are not enough."""
    node.kubelet.admit("ml/train-0", 3)
    done = node.daemon.run("run", "--gpus", "1", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert done.stdout == "3\n"
    until(lambda: node.daemon.status().count("AVAILABLE") == 1)
    done = node.daemon.run("run", "--gpus", "2", "--nonblock", "--", "true", person=people[0])
    assert "3 GPUs reserved" in done.stderr


def test_what_is_reserved_is_not_allocated(node: Node) -> None:
    """If a reservation is sooner, the allocation fails and names the holder; nothing else stays reserved."""
    assert node.daemon.run("reserve", "--gpu-ids", "1").returncode == 0
    with pytest.raises(grpc.RpcError) as failed:
        node.kubelet.allocate("GPU-0", "GPU-1")
    assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details().startswith("canhazgpu: Not available: GPU 1 is reserved by root")
    assert node.held() == {}


def test_a_gpu_that_waiting_requests_claim_is_unhealthy_for_a_while(node: Node) -> None:
    """Its allocation fails with the reason; then no pod is offered it until it may be tried again."""
    assert node.daemon.run("reserve", "--gpu-ids", "0").returncode == 0
    words = [*COMMAND, "reserve", "--gpu-ids", "0-1", "--wait"]
    with subprocess.Popen(words, env=node.daemon.environment, stderr=subprocess.PIPE) as waiting:
        until(lambda: node.daemon.run("queue", "--json").stdout.strip() != "[]", 30)
        with pytest.raises(grpc.RpcError) as failed:
            node.kubelet.allocate("GPU-1")
        assert "GPU 1 is claimed by waiting requests" in failed.value.details()
        until(lambda: node.kubelet.healthy() == {"GPU-2", "GPU-3"})
        waiting.terminate()
    until(lambda: node.kubelet.healthy() == {"GPU-1", "GPU-2", "GPU-3"}, 60)


def test_a_gpu_that_does_not_exist_is_not_allocated(node: Node) -> None:
    """The allocation fails with the name of the GPU."""
    with pytest.raises(grpc.RpcError) as failed:
        node.kubelet.allocate("GPU-7")
    assert "GPU-7 is not a GPU of this host" in failed.value.details()


def test_one_wins_when_a_pod_and_users_want_a_gpu_at_once(node: Node) -> None:
    """Of an allocation and reservations at the same moment, one gets the GPU, and the others are told."""
    client = Client(str(node.daemon.folder / "s"))
    for _ in range(5):
        start = threading.Barrier(3)
        outcomes: list[str] = []

        def allocate(start: Any = start, outcomes: Any = outcomes) -> None:
            start.wait()
            try:
                node.kubelet.allocate("GPU-2")
                node.kubelet.pods["ml/race"] = {"GPU-2"}
                outcomes.append("pod")
            except grpc.RpcError as failed:
                assert "GPU 2 is reserved by root" in str(failed)  # noqa: PT017 - the others go on

        def reserve(start: Any = start, outcomes: Any = outcomes) -> None:
            start.wait()
            done = node.daemon.run("reserve", "--gpu-ids", "2", "--nonblock")
            if done.returncode == 0:
                outcomes.append("user")

        threads = [threading.Thread(target=one) for one in (allocate, reserve, reserve)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 1
        kinds = {row["kind"] for row in client.get("/v1/reservations")}
        assert kinds == {"kubernetes" if outcomes == ["pod"] else "manual"}
        node.kubelet.pods.pop("ml/race", None)
        node.daemon.run("admin", "release", "--all")
        until(lambda: node.daemon.status().count("AVAILABLE") == 4, 60)


def test_a_container_inherits_the_gpus_of_an_init_container(node: Node) -> None:
    """A kubelet allocates a GPU again for the next container of a pod: it stays reserved, once."""
    node.kubelet.allocate("GPU-0")
    first = node.held()
    node.kubelet.allocate("GPU-0", "GPU-1")
    assert node.held()[0] == first[0]
    assert set(node.held()) == {0, 1}


def test_a_pod_that_never_starts_gives_its_gpu_back(node: Node) -> None:
    """What was allocated for a pod that the kubelet does not list is released after a while."""
    node.kubelet.allocate("GPU-0")
    assert set(node.held()) == {0}
    until(lambda: node.held() == {}, 30)


def test_a_gpu_that_is_still_used_stays_reserved(node: Node) -> None:
    """The GPU of a pod that is gone is released only when no process is left on it."""
    node.kubelet.admit("ml/train-0", 2)
    node.daemon.place(*cards(gpu0=use(1, 900, user="root")))
    until(lambda: "[validated: 900MB" in node.daemon.status())
    del node.kubelet.pods["ml/train-0"]
    until(lambda: set(node.held()) == {0}, 30)
    node.daemon.place(*cards())
    until(lambda: node.held() == {}, 30)


def test_a_reservation_that_an_administrator_ended_is_made_again(node: Node) -> None:
    """A pod that lost its reservation has it back within seconds, with its name."""
    node.kubelet.admit("ml/train-0", 1)
    until(lambda: node.held() == {0: "pod ml/train-0"})
    assert node.daemon.run("admin", "release", "--all").returncode == 0
    until(lambda: node.held() == {0: "pod ml/train-0"}, 30)


def test_containers_get_cdi_devices(node: Node) -> None:
    """With `cdi-cri`, a container gets CDI devices by UUID, and NVIDIA's runtime adds nothing."""
    node.stop()
    config = Path(node.daemon.folder / "config.toml")
    text = config.read_text()
    config.write_text(text.replace("[kubernetes]\n", '[kubernetes]\ndevice_list_strategy = "cdi-cri"\n'))
    try:
        node.start()
        answer = node.kubelet.allocate("GPU-0", "GPU-3")
    finally:
        config.write_text(text)
    assert dict(answer.envs) == {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert [one.name for one in answer.cdi_devices] == ["nvidia.com/gpu=GPU-0", "nvidia.com/gpu=GPU-3"]
