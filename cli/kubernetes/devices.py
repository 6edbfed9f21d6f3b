"""The GPUs of this node as the kubelet sees them, from the status that the service gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from canhazgpu.events.reservations import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Held(NamedTuple):
    """A reservation of one GPU for a pod. `pod` is NAMESPACE/NAME, or begins with STARTING."""

    id: str
    pod: str


class Device(NamedTuple):
    """A GPU that pods can request: its UUID is its name in the cluster, `minor` is the N of /dev/nvidiaN."""

    uuid: str
    minor: int
    healthy: bool
    in_use: bool = False
    held: Held | None = None
    is_divided: bool = False


STARTING = "starting-"  # The kubelet does not tell which pod a GPU is for until the pod has it.
LABEL = "pod "


def devices_of(rows: Iterable[dict[str, Any]]) -> tuple[Device, ...]:
    """Return the GPUs that canhazgpu manages, without MIG instances.

    A GPU is healthy if it is free, or if a pod holds it. One that is divided into instances is only listed
    while a pod holds it, so that it can be released; it is not healthy, so that no other pod gets it.
    """
    rows = list(rows)
    used = {row["gpu_id"] for row in rows if row["in_use"]}
    return tuple(
        Device(
            uuid=row["uuid"],
            minor=row["minor"],
            healthy=not _is_divided(row)
            and (row["status"] == "AVAILABLE" or (row["status"] == "IN_USE" and _held(row) is not None)),
            in_use=not used.isdisjoint((row["gpu_id"], *row.get("instances", ()))),
            held=_held(row),
            is_divided=_is_divided(row),
        )
        for row in rows
        if row["status"] != "UNMANAGED" and row["uuid"] and row["minor"] is not None
        if row.get("parent") is None and not (_is_divided(row) and _held(row) is None)
    )


def _is_divided(row: dict[str, Any]) -> bool:
    """Return whether a GPU has MIG instances; an older service has no rows for them."""
    return bool(row.get("instances") or row.get("mig"))


def only_held(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Return the same GPUs, of which only those of pods are healthy: nothing can be reserved."""
    return tuple(device._replace(healthy=device.healthy and device.held is not None) for device in devices)


def without(devices: Iterable[Device], uuids: Collection[str]) -> tuple[Device, ...]:
    """Return the same GPUs, of which these are unhealthy unless a pod holds them."""
    return tuple(
        device._replace(healthy=device.healthy and (device.held is not None or device.uuid not in uuids))
        for device in devices
    )


def _held(row: dict[str, Any]) -> Held | None:
    found = row["reservation"]
    if found is None or found["kind"] != KUBERNETES:
        return None
    return Held(found["id"], str(found["label"]).removeprefix(LABEL))
