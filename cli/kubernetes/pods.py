"""Which pods have which GPUs, as the kubelet's pod-resources API tells it."""

from __future__ import annotations

from typing import NamedTuple

import grpc

from canhazgpu.cli.kubernetes.messages import POD_RESOURCES, call, message

PATIENCE = 5.0  # Seconds for the kubelet's answer.
LONGEST, HEAD = 60, 40  # Characters of a name; of one that is longer, the beginning and the end are kept.


class Pods(NamedTuple):
    """The pods of this node: the pod of each GPU by UUID, and whether there is any pod at all."""

    by_uuid: dict[str, str]
    any: bool


class KubeletAway(Exception):
    """The kubelet does not answer; the message says why."""


def pods(socket: str, resource: str) -> Pods:
    """Return the pods as of now. Raises KubeletAway."""
    found: dict[str, str] = {}
    try:
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            lister = call(channel, POD_RESOURCES, "List")
            answer = lister(message("v1.ListPodResourcesRequest")(), timeout=PATIENCE)
    except grpc.RpcError as error:
        raise KubeletAway(f"{socket}: {reason(error)}") from error
    for pod in answer.pod_resources:
        for container in pod.containers:
            for devices in container.devices:
                if devices.resource_name == resource:
                    found |= dict.fromkeys(devices.device_ids, short(f"{pod.namespace}/{pod.name}"))
    return Pods(found, bool(answer.pod_resources))


def reason(error: grpc.RpcError) -> str:
    """Return why a call failed, in one line."""
    details = error.details() if isinstance(error, grpc.Call) else None
    return " ".join(str(details or error).split())


def short(name: str) -> str:
    """Return a name of a length that a label may have."""
    return name if len(name) <= LONGEST else f"{name[:HEAD]}..{name[HEAD + 2 - LONGEST :]}"
