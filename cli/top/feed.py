"""Asks the service for `top`, in a thread of its own, so that a service that does not answer stops no key."""

import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Thread
from typing import Any

from canhazgpu.cli.display.booking_table import soon
from canhazgpu.cli.top.session import Request
from canhazgpu.client import Client, Refused, Unreachable
from canhazgpu.client.connection import WAITING, WARNED
from canhazgpu.client.reservations import post
from canhazgpu.events.spelling.gpu_ranges import name_gpus

SAMPLES = 40
RETRY = 1.0  # Seconds between two attempts to reach a service that is gone.


@dataclass(frozen=True)
class State:
    """The last answers: rows as in the API; `bookings` are those of the next 24 hours.

    `trouble`: why they are old, `at`: since when (RFC 3339).
    `waiting`: what is waited for, if an answer takes long.
    `samples` are the last readings of each card's utilisation, by UUID; None where it was not known.
    `message` is what came of the last request, `number` how many there were.
    """

    gpus: list[dict[str, Any]] = field(default_factory=list)
    queue: list[dict[str, Any]] = field(default_factory=list)
    bookings: list[dict[str, Any]] = field(default_factory=list)
    own: frozenset[str] = frozenset()
    at: str = ""
    trouble: Exception | None = None
    waiting: str = ""
    warning: str = ""
    samples: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    message: str = ""
    number: int = 0


class Feed:
    """Reads every `interval` seconds, and after each request. `latest` is replaced, never changed."""

    def __init__(self, client: Client, interval: float) -> None:
        """Store the parameters. Warnings of the client become part of the state."""
        self.latest = State()
        self._client, self._interval = client, interval
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._samples: dict[str, deque[int | None]] = {}
        self._warnings: list[str] = []
        self.failure: Exception | None = None  # What ended the thread.
        self._changed: Callable[[], None] = lambda: None
        WARNED[:], WAITING[:] = [self._warnings.append], [self._wait]

    def begin(self, changed: Callable[[], None]) -> None:
        """Start the thread; it calls `changed` after each reading."""
        self._changed = changed
        Thread(target=self._run, daemon=True).start()

    def ask(self, request: Request) -> None:
        """Send a request soon; its outcome becomes the message."""
        self._requests.put(request)

    def read(self) -> None:
        """Read the state; what is known stays if the service does not answer."""
        self._warnings.clear()
        try:
            gpus = self._client.status(fresh=False)
            waiting = self._client.get("/v1/queue")
            booked = soon(self._client.get("/v1/bookings"))
            held = self._client.get("/v1/reservations/own")
        except (Unreachable, Refused) as trouble:
            self.latest = replace(self.latest, trouble=trouble, waiting="")
            return
        self.latest = replace(
            self.latest,
            gpus=gpus,
            queue=waiting,
            bookings=booked,
            own=frozenset(one["reservation"]["id"] for one in held),
            at=datetime.now(UTC).isoformat(),
            trouble=None,
            waiting="",
            warning=self._warnings[0] if self._warnings else "",
            samples=self._sampled(gpus),
        )

    def _wait(self, text: str) -> None:
        self.latest = replace(self.latest, waiting=text)
        self._changed()

    def _run(self) -> None:
        while not self.failure:
            try:
                self._take_turn()
            except Exception as error:  # noqa: BLE001 - the other thread raises it
                self.failure = error
            self._changed()

    def _take_turn(self) -> None:
        try:
            request = self._requests.get(timeout=RETRY if self.latest.trouble else self._interval)
        except queue.Empty:
            pass
        else:
            message = self._outcome(request)
            self.latest = replace(self.latest, message=message, number=self.latest.number + 1)
        self.read()

    def _outcome(self, request: Request) -> str:
        try:
            rows = post(self._client, f"/v1/reservations/{request.verb}", request.body)
        except (Unreachable, Refused) as trouble:
            return str(trouble)
        gpus = [gpu for row in rows for gpu in row["gpus"]]
        if not gpus:
            return "You hold no manual reservation."
        return f"{'Extended' if request.verb == 'extend' else 'Released'} {name_gpus(gpus)}."

    def _sampled(self, gpus: list[dict[str, Any]]) -> dict[str, tuple[int | None, ...]]:
        kept = {
            gpu["uuid"]: self._samples.get(gpu["uuid"], deque([None] * SAMPLES, maxlen=SAMPLES))
            for gpu in gpus
        }
        for gpu in gpus:
            kept[gpu["uuid"]].append(gpu.get("utilization_percent"))
        self._samples = kept
        return {uuid: tuple(samples) for uuid, samples in kept.items()}
