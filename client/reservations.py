"""Requests for reservations, as the commands use them.

Every request has an operation id, so that it can be repeated after a lost answer and is done only once.
"""

from __future__ import annotations

import os
import time

from canhazgpu.client.connection import Client, Refused, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Progress = Callable[[dict[str, Any]], None]

CUDA, ROCR, HIP = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
ATTEMPTS = 5
PAUSE = 0.5  # Seconds between two attempts to reach a service that is gone.
SILENCE = 15.0  # Seconds; while a request waits, the service sends a keep-alive every 5 s.
RETURN_TIME = 60.0  # Seconds for which a waiting request tries to reach a service that is gone.
UNAVAILABLE = 503


class Reservation:
    """A reservation: `gpus` (indices), `id`, and the `environment` for a program that uses them."""

    def __init__(self, granted: dict[str, Any], client: Client) -> None:
        """Store the service's answer."""
        held = granted["reservation"]
        self.id: str = held["id"]
        self.gpus: list[int] = granted.get("held") or held["gpus"]
        self.is_new = granted.get("held") is None
        self.facts: dict[str, Any] = held
        self.environment: dict[str, str] = granted["environment"]
        self._client = client

    @property
    def devices(self) -> str:
        """The value for CUDA_VISIBLE_DEVICES or, for AMD GPUs, for ROCR_VISIBLE_DEVICES."""
        return self.environment.get(ROCR) or self.environment[CUDA]

    @property
    def chosen_vendor(self) -> str | None:
        """Whose GPUs these are, NVIDIA or AMD, if the host has both."""
        if ROCR not in self.environment or _counts_as_hip(self.environment):
            return None
        return "AMD" if self.environment[ROCR] else "NVIDIA"

    def release(self) -> None:
        """Release it, unless it has already ended. Raises Unreachable and Refused."""
        post(self._client, "/v1/reservations/release", {"ids": [self.id]})

    def __repr__(self) -> str:
        """Return the id and the GPUs."""
        return f"Reservation(id={self.id!r}, gpus={self.gpus})"


def obtain(
    client: Client,
    body: dict[str, Any],
    *,
    wait: bool | str | None = None,
    progress: Progress | None = None,
    path: str = "/v1/reservations",
) -> Reservation:
    """Return the reservation that is requested by `body`, the body of a POST to `path`.

    `progress` is called whenever the position in the queue changes. Raises Refused and Unreachable.
    """
    body = {**body, "operation": os.urandom(16).hex()}
    if wait is not None:
        body["wait"] = wait
    if wait is False:
        return Reservation(post(client, path, body), client)
    reached = time.monotonic()
    while True:
        error: Exception = Unreachable("the service closed the connection", "try again")
        try:
            granted = _follow(client, path, body, progress)
            if granted:
                return Reservation(granted, client)
            reached = time.monotonic()
        except Unreachable as trouble:
            error = trouble
        except Refused as trouble:
            if trouble.status != UNAVAILABLE:
                raise
            error = trouble
        waits = "request" in body
        gone = not waits and not os.path.exists(client.socket)  # noqa: PTH110 - pathlib would cost time
        if (
            client.abandoned
            or gone
            or time.monotonic() - reached > (RETURN_TIME if waits else ATTEMPTS * PAUSE)
        ):
            raise error
        time.sleep(PAUSE)


def _follow(
    client: Client, path: str, body: dict[str, Any], progress: Progress | None
) -> dict[str, Any] | None:
    """Return the granted reservation, or None if the service is gone. Stores the request's id in `body`."""
    lines = client.lines(path, body, silence=SILENCE)
    for line in lines:
        if line["state"] == "granted":
            try:
                for _ in lines:  # An answer that is not read to its end counts as undelivered.
                    pass
            except Unreachable:
                pass
            return line
        if line["state"] == "refused":
            kind = str(line["type"]).rpartition(":")[2]
            raise Refused(line["status"], kind, line["detail"], line["remedy"])
        body["request"] = line["id"]
        if progress:
            progress(line)
    return None


def post(client: Client, path: str, body: dict[str, Any]) -> Any:
    """Return the answer to a request. If the outcome is unknown, repeat it with the same operation id.

    Raises Unreachable and Refused.
    """
    body = {"operation": os.urandom(16).hex(), **body}
    began = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return client.post(path, body)
        except Refused as refused:
            if refused.status != UNAVAILABLE or attempt == ATTEMPTS or _late(began):
                raise
        except Unreachable:
            if attempt == 1 and not os.path.exists(client.socket):  # noqa: PTH110 - pathlib would cost time
                raise
            if attempt == ATTEMPTS or _late(began):
                raise
        time.sleep(PAUSE)
    raise AssertionError


def together(environments: list[dict[str, str]]) -> dict[str, str]:
    """Return the variables for the GPUs of several reservations, which have no common id."""
    found = {CUDA: ",".join(filter(None, (one[CUDA] for one in environments)))}
    if ROCR in environments[0]:
        found[ROCR] = ",".join(filter(None, (one.get(ROCR) for one in environments)))
        found[HIP] = ",".join(str(place) for place in range(found[ROCR].count(",") + bool(found[ROCR])))
        if all(map(_counts_as_hip, environments)):
            found[CUDA] = found[HIP]
    return {**found, "CUDA_DEVICE_ORDER": environments[0]["CUDA_DEVICE_ORDER"]}


def _counts_as_hip(environment: dict[str, str]) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES counts AMD GPUs, as on a host without NVIDIA GPUs."""
    return environment.get(HIP) == environment[CUDA]


def _late(began: float) -> bool:
    """Return whether the time for retries is over, so that a slow request is not repeated."""
    return time.monotonic() - began > ATTEMPTS * PAUSE
