"""The methods that the kubelet calls: the list of GPUs, and the allocation of some of them to a container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from canhazgpu.cli.kubernetes.inventory import Ended, Inventory
from canhazgpu.cli.kubernetes.messages import HEALTHY, UNHEALTHY, message
from canhazgpu.client.connection import BadSettings, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CDI_KIND = "nvidia.com/gpu"
VISIBLE = "NVIDIA_VISIBLE_DEVICES"
NONE_VISIBLE = "void"  # NVIDIA's runtime adds nothing; an image may say `all`.


class Servicer:
    """Serves one registration. `reserve` takes UUIDs, and raises Refused, Unreachable or BadSettings."""

    def __init__(self, inventory: Inventory, reserve: Callable[[Sequence[str]], None], *, cdi: bool) -> None:
        """Offer the GPUs of `inventory`; with `cdi`, pass them to containers as CDI devices."""
        self._inventory, self._reserve, self._cdi = inventory, reserve, cdi

    def get_device_plugin_options(self, _: Any, __: grpc.ServicerContext) -> Any:
        """Return that neither of the optional methods is to be called."""
        return message("v1beta1.DevicePluginOptions")()

    def list_and_watch(self, _: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Yield all GPUs with their health, now and after each change."""
        ended = Ended()
        context.add_callback(lambda: self._inventory.wake(ended))
        for health in self._inventory.watch(ended):
            yield message("v1beta1.ListAndWatchResponse")(
                devices=[
                    {"ID": uuid, "health": HEALTHY if healthy else UNHEALTHY} for uuid, healthy in health
                ]
            )

    def allocate(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Reserve the GPUs of containers. If one of them cannot be reserved, the pod is not admitted."""
        containers = [list(one.devices_ids) for one in request.container_requests]
        try:
            self._reserve([uuid for uuids in containers for uuid in uuids])
        except Refused as refused:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"canhazgpu: {refused}")
        except (Unreachable, BadSettings) as trouble:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"canhazgpu: {trouble}")
        return message("v1beta1.AllocateResponse")(
            container_responses=[self._container(uuids) for uuids in containers]
        )

    def get_preferred_allocation(self, _: Any, __: grpc.ServicerContext) -> Any:
        """Prefer nothing."""
        return message("v1beta1.PreferredAllocationResponse")()

    def pre_start_container(self, _: Any, __: grpc.ServicerContext) -> Any:
        """Do nothing."""
        return message("v1beta1.PreStartContainerResponse")()

    def _container(self, uuids: Sequence[str]) -> dict[str, Any]:
        if not self._cdi:
            return {"envs": {VISIBLE: ",".join(uuids)}}
        devices = [{"name": f"{CDI_KIND}={uuid}"} for uuid in uuids]
        return {"envs": {VISIBLE: NONE_VISIBLE}, "cdi_devices": devices}
