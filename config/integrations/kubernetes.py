"""The settings of `canhazgpu kubernetes`, which offers the GPUs of this node to pods."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from canhazgpu.config.fields import about

ResourceName = Annotated[
    str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]


class Kubernetes(Struct, frozen=True, kw_only=True):
    """What the device plugin does. It reads these settings when it starts; the service does not."""

    resource: Annotated[ResourceName, about("Name of the resource that pods request.")] = "canhazgpu.io/gpu"
    device_list_strategy: Annotated[
        Literal["envvar", "cdi-cri"],
        about(
            "How a container gets its GPUs. envvar: through NVIDIA_VISIBLE_DEVICES, which NVIDIA's container"
            " runtime reads. cdi-cri: as the CDI devices nvidia.com/gpu=UUID, which the container runtime"
            " must know."
        ),
    ] = "envvar"
    plugin_dir: Annotated[
        str, about("Directory of the kubelet's registration socket, where the plugin puts its own.")
    ] = "/var/lib/kubelet/device-plugins"
    pod_resources: Annotated[str, about("Socket of the kubelet's pod-resources API.")] = (
        "/var/lib/kubelet/pod-resources/kubelet.sock"
    )
