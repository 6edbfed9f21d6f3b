"""Decides which reservations of pods to make, to label and to release, so that they are those of the pods.

A reservation stays until the kubelet has not listed a pod with its GPU for a while, and nothing uses the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from canhazgpu.cli.kubernetes.devices import Device, Held
    from canhazgpu.cli.kubernetes.pods import Pods

SETTLED = 10.0  # Seconds from the allocation until the kubelet lists the pod.
EMPTY = 300.0  # Seconds until a list without any pod counts: a kubelet that has restarted may know none yet.


class Plan(NamedTuple):
    """What is to be done, by GPU."""

    reserve: tuple[tuple[Device, str], ...] = ()
    label: tuple[tuple[Held, str], ...] = ()
    release: tuple[Device, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.reserve or self.label or self.release)


class Reconciliation:
    """Remembers since when the kubelet does not list the GPUs that pods hold. Times are of one clock."""

    def __init__(self) -> None:
        """Know nothing: after a start, each GPU is kept for as long as after its allocation."""
        self._unlisted: dict[str, float] = {}

    def allocated(self, uuids: Iterable[str]) -> None:
        """Note that these GPUs were allocated now: they will be listed."""
        for uuid in uuids:
            self._unlisted.pop(uuid, None)

    def is_settled(self) -> bool:
        """Return whether all GPUs that pods hold are listed."""
        return not self._unlisted

    def plan(self, devices: Iterable[Device], pods: Pods, now: float) -> Plan:
        """Return what to do after a list of pods that was asked for at the time `now`."""
        reserve, label, release = [], [], []
        unlisted: dict[str, float] = {}
        for device in devices:
            pod, held = pods.by_uuid.get(device.uuid), device.held
            if pod and held is None:
                reserve.append((device, pod))
            elif pod and held and held.pod != pod:
                label.append((held, pod))
            elif held and not pod:
                since = unlisted[device.uuid] = self._unlisted.get(device.uuid, now)
                if now - since >= (SETTLED if pods.any else EMPTY) and not device.in_use:
                    release.append(device)
        self._unlisted = unlisted
        return Plan(tuple(reserve), tuple(label), tuple(release))
