"""What becomes of pods and their GPUs when the kubelet, the plugin or the service is restarted."""

import signal
import subprocess
import sys
from functools import partial

import grpc
import pytest
from support.daemon import COMMAND, until
from support.kubelet import Node, plugin_inside
from support.people import Person

from canhazgpu.cli.kubernetes import held

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]
ALL = {f"GPU-{index}" for index in range(4)}


def _registered_since(node: Node, before: int) -> bool:
    return len(node.kubelet.registrations) > before


def test_a_kubelet_that_restarts_knows_the_gpus_again(node: Node) -> None:
    """The plugin makes its socket anew, registers again, and the pods keep their GPUs."""
    node.kubelet.admit("ml/train-0", 1)
    until(lambda: node.held() == {0: "pod ml/train-0"})
    for _ in range(2):
        before = len(node.kubelet.registrations)
        node.kubelet.stop()
        node.kubelet.start()
        until(partial(_registered_since, node, before), 30)
        until(lambda: node.kubelet.healthy() == ALL)
    assert node.held() == {0: "pod ml/train-0"}
    node.kubelet.admit("ml/train-1", 1)
    until(lambda: node.held() == {0: "pod ml/train-0", 1: "pod ml/train-1"})


def test_a_kubelet_that_starts_later_is_waited_for(node: Node) -> None:
    """Without a kubelet the plugin waits and says so once; with one, it registers."""
    node.stop()
    node.kubelet.stop()
    for path in node.kubelet.folder.iterdir():
        path.unlink(missing_ok=True)
    node.log.write_text("")
    node.launch()
    until(lambda: "not registered with the kubelet" in node.log.read_text(), 30)
    node.kubelet.start()
    until(lambda: node.kubelet.healthy() == ALL, 30)
    assert node.log.read_text().count("kubelet.sock does not exist") == 1


def test_a_kubelet_that_knows_no_pods_yet_ends_nothing(node: Node) -> None:
    """After its start, a kubelet may list no pod at all: what pods hold stays."""
    node.kubelet.admit("ml/train-0", 1)
    until(lambda: node.held() == {0: "pod ml/train-0"})
    node.kubelet.lists_pods = False
    node.kubelet.stop()
    node.kubelet.start()
    lists = node.kubelet.lists
    until(lambda: node.kubelet.lists >= lists + 12, 60)  # One each second: longer than a pod may be unlisted.
    assert node.held() == {0: "pod ml/train-0"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_plugin_that_restarts_changes_nothing(node: Node, number: int) -> None:
    """Pods keep their GPUs while no plugin runs, and those that ended meanwhile are released afterwards."""
    node.kubelet.admit("ml/train-0", 1)
    node.kubelet.admit("ml/train-1", 1)
    until(lambda: node.held() == {0: "pod ml/train-0", 1: "pod ml/train-1"})
    assert node.stop(number) == (0 if number == signal.SIGTERM else -number)
    assert (node.kubelet.folder / "canhazgpu.sock").exists() == (number == signal.SIGKILL)
    assert set(node.held()) == {0, 1}
    del node.kubelet.pods["ml/train-0"]
    node.start()
    until(lambda: node.held() == {1: "pod ml/train-1"}, 30)


def test_an_allocation_waits_for_a_service_that_restarts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the service is down, the allocation is tried again; the pod gets its GPU, and the others stay."""
    monkeypatch.setattr(held, "PATIENCE", 200.0)  # A service may take long to start here.
    monkeypatch.setenv("CANHAZGPU_SOCKET", str(node.daemon.folder / "s"))
    with plugin_inside(node):
        node.kubelet.admit("ml/train-0", 1)
        until(lambda: node.held() == {0: "pod ml/train-0"})
        node.daemon.stop(signal.SIGKILL)
        call = node.kubelet.allocating("GPU-1")
        assert not call.done()
        node.daemon.start()
        assert dict(call.result().container_responses[0].envs) == {"NVIDIA_VISIBLE_DEVICES": "GPU-1"}
        assert set(node.held()) == {0, 1}


def test_a_service_that_restarts_while_its_settings_are_replaced(node: Node) -> None:
    """The plugin has read them at its start: pods get GPUs again, and nothing is a traceback."""
    settings = node.daemon.folder / "config.toml"
    before = len(node.log.read_text())
    node.daemon.stop()
    settings.rename(settings.with_suffix(".away"))
    until(lambda: "the service does not answer" in node.log.read_text()[before:])
    call = node.kubelet.allocating("GPU-1")
    settings.with_suffix(".away").rename(settings)
    node.daemon.start()
    assert call.exception() is None or call.exception().code() == grpc.StatusCode.UNAVAILABLE
    # If the service took long to start, the kubelet is asked for another pod.
    assert dict(node.kubelet.allocate("GPU-1").envs) == {"NVIDIA_VISIBLE_DEVICES": "GPU-1"}
    assert "Traceback" not in node.log.read_text()[before:]


def test_without_a_service_only_gpus_of_pods_are_healthy(node: Node) -> None:
    """An allocation fails with the reason; after ten seconds no other GPU is offered, until it is back."""
    node.kubelet.admit("ml/train-0", 1)
    until(lambda: node.held() == {0: "pod ml/train-0"})
    node.daemon.stop()
    try:
        until(lambda: node.kubelet.healthy() == {"GPU-0"}, 60)
        with pytest.raises(grpc.RpcError) as failed:
            node.kubelet.allocate("GPU-1")
        assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "the service does not answer" in failed.value.details()
    finally:
        node.daemon.start()
    until(lambda: node.kubelet.healthy() == ALL, 30)
    assert node.held() == {0: "pod ml/train-0"}


def test_a_caller_without_rights_ends_with_one_line(node: Node, people: list[Person]) -> None:
    """A user cannot offer GPUs: the plugin says that only administrators can, and ends."""
    done = node.daemon.run("kubernetes", person=people[0])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "only administrators can do this" in done.stderr


def test_a_plugin_in_a_container_ends_with_one_line(node: Node) -> None:
    """Root in another mount namespace cannot reserve for pods: the plugin says where to run it."""
    words = ["unshare", "--mount", *COMMAND, "kubernetes"]
    done = subprocess.run(
        words, env=node.daemon.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "on the host" in done.stderr, done.stderr


def test_without_its_packages_one_line_says_what_to_install(node: Node) -> None:
    """Without grpcio, the command names the extra."""
    code = "import sys; sys.modules['grpc'] = None\nfrom canhazgpu.cli.main import main\nmain()"
    words = [sys.executable, "-c", code, "kubernetes"]
    done = subprocess.run(words, env=node.daemon.environment, capture_output=True, text=True, check=False)
    said = "Error: this needs grpcio and protobuf: pip install 'canhazgpu[kubernetes]'\n"
    assert (done.returncode, done.stderr) == (1, said)
