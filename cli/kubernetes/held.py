"""What the service holds for pods: requests of the plugin. Each GPU of a pod has a reservation of its own.

The kubelet gives and takes GPUs one by one: a container inherits those of the init containers before it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NoReturn

from canhazgpu.cli.kubernetes.devices import STARTING, Device, Held, devices_of
from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import obtain, post
from canhazgpu.events.reservations import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

JOBS = "/v1/jobs"
ROOT = 0  # Pods have no user of this host.
PATIENCE = 10.0  # Seconds in which a service that is restarted is back.
PAUSE = 0.2
CONFLICT = 409
SERVER_ERROR = 500  # From this status on, the service cannot tell.


def devices(client: Client) -> tuple[Device, ...]:
    """Return the GPUs. Raises Refused and Unreachable."""
    return devices_of(client.status(fresh=False))


def reserve(client: Client, device: Device) -> Held:
    """Reserve a GPU for a pod that is not known yet. Raises Refused and Unreachable."""
    name = f"{STARTING}{os.urandom(4).hex()}"
    body = {"kind": KUBERNETES, "job": name, "uid": ROOT, "devices": [device.minor]}
    return Held(obtain(client, body, wait=False, path=JOBS).id, name)


def reserve_all(client: Client, uuids: Sequence[str]) -> None:
    """Reserve what no pod holds yet of these GPUs, or nothing. Raises Refused and Unreachable."""
    made: list[Held] = []
    known = {device.uuid: device for device in devices(client)}
    try:
        for uuid in uuids:
            device = known.get(uuid) or _missing(uuid)
            if device.is_divided:
                detail = f"{uuid} is divided into MIG instances"
                raise Refused(CONFLICT, "divided", detail, "pods get GPUs that are not divided")
            if device.held is None:
                made.append(reserve(client, device))
    except (Refused, Unreachable):
        release(client, made)
        raise


def reserve_patiently(client: Client, uuids: Sequence[str], patience: float) -> None:
    """Reserve like `reserve_all`, but wait for a service that is being restarted."""
    until = time.monotonic() + patience
    while True:
        try:
            return reserve_all(client, uuids)
        except (Refused, Unreachable) as trouble:
            final = isinstance(trouble, Refused) and trouble.status < SERVER_ERROR
            if final or time.monotonic() >= until:
                raise
        time.sleep(PAUSE)


def label(client: Client, held: Held, pod: str) -> None:
    """Store which pod has a GPU. Raises Refused and Unreachable."""
    post(client, f"{JOBS}/label", {"kind": KUBERNETES, "id": held.id, "job": pod})


def release(client: Client, held: Iterable[Held]) -> None:
    """Release GPUs of pods. Raises Refused and Unreachable."""
    ids = [one.id for one in held]
    if ids:
        post(client, f"{JOBS}/release", {"kind": KUBERNETES, "ids": ids})


def check_rights(client: Client) -> None:
    """Raise Refused if the service does not let this process reserve for pods; also Unreachable."""
    post(client, f"{JOBS}/release", {"kind": KUBERNETES, "job": STARTING})


def _missing(uuid: str) -> NoReturn:
    raise Refused(CONFLICT, "no-such-gpu", f"{uuid} is not a GPU of this host", "run `canhazgpu status`")
