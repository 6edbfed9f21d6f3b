"""Reservations for programs: `with reserve(gpus=2) as r:`; and what the commands are made of.

A demand has a name, so that one whose answer was lost is asked again and done once.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from canhazgpu.client.connection import Client, Refused, Unreachable

ATTEMPTS = 5
PAUSE = 0.5  # Seconds between two attempts to reach a service that went away.
SILENCE = 15.0  # Seconds; while it waits, the service gives a sign of life every 5 s.
RETURN_TIME = 60.0  # Seconds that who waits tries to reach a service that went away.
UNAVAILABLE = 503

Progress = Callable[[dict[str, Any]], None]


class Reservation:
    """GPUs that are yours: `gpus` (indices), `id`, `environment` for a program that is to use them."""

    def __init__(self, granted: dict[str, Any], client: Client) -> None:
        """Take what the service granted."""
        held = granted["reservation"]
        self.id: str = held["id"]
        self.gpus: list[int] = held["gpus"]
        self.facts: dict[str, Any] = held
        self.environment: dict[str, str] = granted["environment"]
        self._client = client

    @property
    def devices(self) -> str:
        """What CUDA_VISIBLE_DEVICES is to be."""
        return self.environment["CUDA_VISIBLE_DEVICES"]

    def release(self) -> None:
        """End it, if it is not over already. Raises Unreachable and Refused."""
        post(self._client, "/v1/reservations/release", {"ids": [self.id]})

    def __repr__(self) -> str:
        """Return it as people name it."""
        return f"Reservation(id={self.id!r}, gpus={self.gpus})"


@contextmanager
def reserve(  # noqa: PLR0913 - each says one thing about the reservation
    gpus: int = 1,
    *,
    gpu_ids: Sequence[int] | None = None,
    duration: str | None = None,
    wait: bool | str = True,
    note: str | None = None,
    client: Client | None = None,
) -> Iterator[Reservation]:
    """Reserve GPUs for a `with` block, and give them back at its end.

    `gpus` is how many, `gpu_ids` names them instead. `wait`: for as long as it takes, not at all
    (False), or at most so long (`"30m"`). `duration` (`"4h"`) bounds it in any case. Within the
    block the environment of this process says CUDA_VISIBLE_DEVICES and what goes with it; a library
    that looked at it before does not notice. Raises Refused, Unreachable and BadSettings.
    """
    client = client or Client()
    demand = {
        "kind": "manual",
        **({"gpus": list(gpu_ids)} if gpu_ids is not None else {"count": gpus}),
        **{name: value for name, value in {"duration": duration, "note": note}.items() if value is not None},
    }
    held = obtain(client, demand, wait=wait)
    before = {name: os.environ.get(name) for name in held.environment}
    os.environ.update(held.environment)
    try:
        yield held
    except BaseException as error:
        _restore(before)
        try:
            held.release()
        except (Refused, Unreachable) as trouble:
            error.add_note(f"GPUs {held.gpus} are reserved still: {trouble}")
        raise
    _restore(before)
    held.release()


def _restore(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def obtain(
    client: Client,
    demand: dict[str, Any],
    *,
    wait: bool | str | None = None,
    progress: Progress | None = None,
) -> Reservation:
    """Return the reservation that `demand`, the body of POST /v1/reservations, asks for.

    `progress` hears where it stands in the queue, each time that changes. Raises Refused and Unreachable.
    """
    demand = {**demand, "operation": os.urandom(16).hex()}
    if wait is not None:
        demand["wait"] = wait
    if wait is False:
        return Reservation(post(client, "/v1/reservations", demand), client)
    reached = time.monotonic()
    while True:
        error: Exception = Unreachable("the service went away", "try again")
        try:
            granted = _follow(client, demand, progress)
            if granted:
                return Reservation(granted, client)
            reached = time.monotonic()
        except Unreachable as trouble:
            error = trouble
        except Refused as trouble:
            if trouble.status != UNAVAILABLE:
                raise
            error = trouble
        waits = "request" in demand
        gone = not waits and not os.path.exists(client.socket)  # noqa: PTH110 - pathlib would cost time
        if gone or time.monotonic() - reached > (RETURN_TIME if waits else ATTEMPTS * PAUSE):
            raise error
        time.sleep(PAUSE)


def _follow(client: Client, demand: dict[str, Any], progress: Progress | None) -> dict[str, Any] | None:
    """Return what was granted, None when the service went away; the request's id is put into `demand`."""
    lines = client.lines("/v1/reservations", demand, silence=SILENCE)
    for line in lines:
        if line["state"] == "granted":
            with suppress(Unreachable):
                for _ in lines:  # To its very end: an answer of which some is left unread counts as unheard.
                    pass
            return line
        if line["state"] == "refused":
            kind = str(line["type"]).rpartition(":")[2]
            raise Refused(line["status"], kind, line["detail"], line["remedy"])
        demand["request"] = line["id"]
        if progress:
            progress(line)
    return None


def post(client: Client, path: str, body: dict[str, Any]) -> Any:
    """Return the answer to a demand; one whose outcome is unknown is repeated under its name.

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


def _late(began: float) -> bool:
    """Whether a service that comes back would have done so: what takes long each time is not asked again."""
    return time.monotonic() - began > ATTEMPTS * PAUSE
