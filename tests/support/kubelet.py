"""A kubelet's side of the device plugin and pod-resources APIs, over real sockets, without a cluster.

It gives out GPUs as a kubelet does: only those that the plugin calls healthy and that no pod has. It
remembers pods when it restarts, as a kubelet does by its checkpoint.
"""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import grpc
from support.daemon import COMMAND, Daemon, gpu
from support.eventually import until

from canhazgpu.cli.kubernetes import plugin
from canhazgpu.cli.kubernetes.messages import (
    DEVICE_PLUGIN,
    POD_RESOURCES,
    REGISTRATION,
    call,
    handlers,
    message,
)
from canhazgpu.client import Client
from canhazgpu.config.integrations.kubernetes import Kubernetes

RESOURCE = "canhazgpu.io/gpu"
GPUS = 4
SETTINGS = '[kubernetes]\nplugin_dir = "{folder}/plugins"\npod_resources = "{folder}/pods.sock"\n'


def cards(**processes: str) -> list[str]:
    """Return the scenario; `gpu0` and so on name the process on a GPU. Device files count the other way."""
    used = [[processes[f"gpu{index}"]] if f"gpu{index}" in processes else [] for index in range(GPUS)]
    return [
        gpu(index, *used[index], minor=GPUS - 1 - index, uuid=f"GPU-{index}", memory_used_mb=45)
        for index in range(GPUS)
    ]


class Kubelet:
    """One kubelet: `health` is what the plugin sent last, `pods` who has which GPUs."""

    def __init__(self, folder: Path) -> None:
        """Use the sockets in this folder."""
        self.folder = folder / "plugins"
        self.folder.mkdir(exist_ok=True)
        self._pod_resources = folder / "pods.sock"
        self.pods: dict[str, set[str]] = {"kube-system/proxy": set()}
        self.lists_pods, self.lists = True, 0
        self.health: dict[str, str] = {}
        self.registrations: list[Any] = []
        self._servers: list[grpc.Server] = []
        self._channels: list[grpc.Channel] = []
        self._watches: list[Thread] = []
        self._changed = Condition()

    def start(self) -> None:
        """Remove the sockets of plugins, as a kubelet does, and serve."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)  # The plugin removes its own, too.
        self.health = {}
        for path, service in (
            (self.folder / "kubelet.sock", REGISTRATION),
            (self._pod_resources, POD_RESOURCES),
        ):
            path.unlink(missing_ok=True)
            server = grpc.server(ThreadPoolExecutor(4))
            server.add_generic_rpc_handlers((handlers(service, self),))
            server.add_insecure_port(f"unix:{path}")
            server.start()
            self._servers.append(server)

    def stop(self) -> None:
        """Close all connections and sockets."""
        while self._channels:
            self._channels.pop().close()
            self._watches.pop().join()
        while self._servers:
            self._servers.pop().stop(None).wait()

    def register(self, request: Any, _: Any) -> Any:
        """Connect to the plugin, ask for its options, and watch its GPUs."""
        channel = grpc.insecure_channel(f"unix:{self.folder / request.endpoint}")
        options = call(channel, DEVICE_PLUGIN, "GetDevicePluginOptions")
        options(message("v1beta1.Empty")(), timeout=30)
        self._channels.append(channel)
        self._watches.append(Thread(target=self._watch, args=(channel,)))
        self._watches[-1].start()
        self.registrations.append(request)
        return message("v1beta1.Empty")()

    def list(self, _: Any, __: Any) -> Any:
        """Return the pods with their GPUs."""
        self.lists += 1
        rows = []
        for pod, uuids in self.pods.items() if self.lists_pods else ():
            namespace, name = pod.split("/")
            devices = [{"resource_name": RESOURCE, "device_ids": sorted(uuids)}]
            containers = [{"name": "main", "devices": devices if uuids else []}]
            rows.append({"name": name, "namespace": namespace, "containers": containers})
        return message("v1.ListPodResourcesResponse")(pod_resources=rows)

    def _watch(self, channel: grpc.Channel) -> None:
        with suppress(grpc.RpcError, ValueError):  # The channel or the plugin was closed.
            watch = call(channel, DEVICE_PLUGIN, "ListAndWatch")
            for sent in watch(message("v1beta1.Empty")(), wait_for_ready=True):
                with self._changed:
                    self.health = {one.ID: one.health for one in sent.devices}
                    self._changed.notify_all()

    def healthy(self) -> set[str]:
        """Return the GPUs that could be given to pods, or have been."""
        return {uuid for uuid, health in self.health.items() if health == "Healthy"}

    def allocate(self, *uuids: str) -> Any:
        """Ask for GPUs for one container; return its part of the response. Raises grpc.RpcError."""
        return self.allocating(*uuids).result().container_responses[0]

    def allocating(self, *uuids: str) -> Any:
        """Begin to ask for GPUs; return the call."""
        request = message("v1beta1.AllocateRequest")(container_requests=[{"devices_ids": uuids}])
        return call(self._channels[-1], DEVICE_PLUGIN, "Allocate").future(request, timeout=300)

    def free(self) -> tuple[str, ...]:
        """Return the GPUs that can be given to pods."""
        return tuple(sorted(self.healthy() - {uuid for given in self.pods.values() for uuid in given}))

    def admit(self, pod: str, count: int) -> Any:
        """Give a pod any free GPUs, as soon as there are so many."""
        free = until(lambda: len(now := self.free()) >= count and now, 30, f"{pod}: insufficient {RESOURCE}")
        answer = self.allocate(*free[:count])
        self.pods[pod] = set(free[:count])
        return answer


@contextmanager
def plugin_inside(node: "Node") -> Iterator[None]:
    """Run a plugin in this process instead of one of its own; return when the kubelet knows the GPUs."""
    node.stop()
    folder = node.daemon.folder
    own = plugin.Plugin(
        Kubernetes(plugin_dir=str(node.kubelet.folder), pod_resources=str(folder / "pods.sock"))
    )
    before = len(node.kubelet.registrations)
    node.kubelet.health = {}
    thread = Thread(target=own.run)
    thread.start()
    try:
        until(lambda: len(node.kubelet.registrations) > before and node.kubelet.health, 30)
        yield
    finally:
        own.stop()
        thread.join()


class Node:
    """A service, a kubelet and the plugin between them."""

    def __init__(self, daemon: Daemon) -> None:
        """Start the kubelet; the service's settings name its sockets."""
        self.daemon, self.kubelet = daemon, Kubelet(daemon.folder)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = daemon.folder / "plugin.log"
        self.kubelet.start()

    def start(self) -> None:
        """Start the plugin; return when the kubelet knows the GPUs."""
        before = len(self.kubelet.registrations)
        self.launch()
        until(lambda: len(self.kubelet.registrations) > before and self.kubelet.health, 30)

    def launch(self) -> None:
        """Start the plugin."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "kubernetes"],
                env=self.daemon.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, number: int = 15) -> int:
        """End the plugin; return its exit code."""
        assert self.process
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def held(self) -> dict[int, str]:
        """Return the label of each GPU that pods hold."""
        rows = Client(str(self.daemon.folder / "s")).get("/v1/reservations")
        return {gpu: row["label"] for row in rows if row["kind"] == "kubernetes" for gpu in row["gpus"]}

    def close(self) -> None:
        """End the plugin and the kubelet."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self.kubelet.stop()
