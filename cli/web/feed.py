"""Reads the state of the service: again after each event while somebody watches, else now and then."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskStatus

from canhazgpu.cli.display.booking_table import soon
from canhazgpu.cli.web.history import History
from canhazgpu.cli.web.live import Live
from canhazgpu.cli.web.pages.now import State, now_page
from canhazgpu.client.connection import WAITING, WARNED, Client, Refused, Unreachable

PATIENCE = 5.0  # Seconds for each answer.
WATCHED, UNWATCHED = 2.0, 15.0  # Seconds between two readings without an event.
GATHER = 0.1  # Seconds in which events are one.
FRESH = 0.25  # Seconds; a state that is older is read again for a new browser.
SILENCE = 40.0  # Seconds; the service sends an empty line every 15.
FLEET_SILENCE = 15.0  # The fleet's Redis may take 10 s for a part of the hosts.
RETRY = 0.5
# Of a host that is in a fleet, although its copy cannot be read.
FLEET_PROBLEMS = frozenset({"no-such-host", "fleet-unavailable"})
PATHS = ("/v1/status", "/v1/queue", "/v1/bookings")
EVENTS = "/v1/events?follow=1&n=1"


class Answers(threading.local):
    """What the service warned of in the last answer that this thread read."""

    warning = ""


class Service:
    """The service's API, for many tasks at a time."""

    def __init__(self, socket: str) -> None:
        """Use this socket."""
        self.socket = socket
        self._answers = Answers()
        WARNED[:], WAITING[:] = [self._warn], []

    def _warn(self, text: str) -> None:
        self._answers.warning = text

    async def get(self, *paths: str) -> tuple[list[Any], str]:
        """Return the answers to some requests, and a warning. Raises Unreachable and Refused."""
        return await anyio.to_thread.run_sync(self._get, paths, abandon_on_cancel=True)

    async def partial(self, path: str) -> tuple[list[dict[str, Any]], str]:
        """Return the objects of a stream, and why it ended early. Raises Unreachable and Refused."""
        return await anyio.to_thread.run_sync(self._partial, path, abandon_on_cancel=True)

    async def lines(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a stream that ends. Raises Unreachable and Refused."""
        return await anyio.to_thread.run_sync(self._lines, path, abandon_on_cancel=True)

    def _lines(self, path: str) -> list[dict[str, Any]]:
        rows, trouble = self._partial(path)
        if trouble:
            raise Refused(503, "refused", trouble, "")
        return rows

    def _partial(self, path: str) -> tuple[list[dict[str, Any]], str]:
        rows = list(Client(self.socket).lines(path, silence=FLEET_SILENCE))
        refused = [row for row in rows if row.get("state") == "refused"]
        return [row for row in rows if row not in refused], refused[0]["detail"] if refused else ""

    async def is_in_fleet(self, host: str) -> bool:
        """Return whether the host is in a fleet that this process may see. Raises Unreachable."""
        try:
            await self.lines(f"/v1/fleet/status?host={quote(host, '')}")
        except Refused as refused:
            return refused.kind in FLEET_PROBLEMS
        return True

    def _get(self, paths: tuple[str, ...]) -> tuple[list[Any], str]:
        self._answers.warning = ""
        client = Client(self.socket, patience=PATIENCE)
        return [client.get(path) for path in paths], self._answers.warning


class Feed:
    """Keeps `live` current."""

    def __init__(self, service: Service) -> None:
        """Begin without a state."""
        self.state, self.history = State(), History()
        self.live = Live(now_page(self.state, self.history))
        self._service = service
        self._read_at = float("-inf")
        self._reading = anyio.Lock()
        self._woken = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled."""
        await self.refresh(0)
        task_status.started()
        follower = Follower(self._service.socket, self._wake)
        follower.start()
        try:
            while True:
                await self._pause()
                await self.refresh(GATHER)
        finally:
            follower.stop()

    def _wake(self) -> None:
        self._woken.set()

    async def _pause(self) -> None:
        """Wait until it is time to read: with nobody watching, an event is no reason."""
        began = time.monotonic()
        while (left := began + (WATCHED if self.live.watchers else UNWATCHED) - time.monotonic()) > 0:
            with anyio.move_on_after(min(left, WATCHED)):
                await self._woken.wait()
                self._woken = anyio.Event()
                if self.live.watchers:
                    await anyio.sleep(GATHER)
                    return

    async def refresh(self, age: float = FRESH) -> None:
        """Read the state, unless it is younger than `age`. Many who ask at a time share one reading."""
        async with self._reading:
            if time.monotonic() - self._read_at < age:
                return
            self.state = await self._read()
            self._read_at = time.monotonic()
            self.live.update(now_page(self.state, self.history))

    async def _read(self) -> State:
        known = self.state
        host = () if known.host else ("/v1/health",)
        try:
            (gpus, queue, booked, *health), warning = await self._service.get(*PATHS, *host)
        except (Unreachable, Refused) as trouble:
            return msgspec.structs.replace(known, trouble=reason_of(trouble), warning="")
        self.history.add(gpus, time.monotonic())
        name = health[0]["host"] if health else known.host
        fleet = known.fleet
        if health or known.trouble:  # The service may have other settings now.
            with contextlib.suppress(Unreachable):
                fleet = await self._service.is_in_fleet(name)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return State(
            host=name, gpus=gpus, queue=queue, bookings=soon(booked), at=at, warning=warning, fleet=fleet
        )


def reason_of(trouble: Unreachable | Refused) -> str:
    """Return why there is no answer."""
    return trouble.reason if isinstance(trouble, Unreachable) else trouble.detail


class Follower:
    """A thread that says when there was an event."""

    def __init__(self, socket: str, callback: Callable[[], None]) -> None:
        """Prepare to call `callback` in the event loop after each event."""
        self._socket, self._callback = socket, callback
        self._client: Client | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the thread."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._follow, args=(loop,), daemon=True).start()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped = True
        if self._client:
            self._client.abandon()

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped:
            self._client = Client(self._socket)
            with contextlib.suppress(Unreachable, Refused, RuntimeError):  # The last if the loop has ended.
                for _ in self._client.lines(EVENTS, silence=SILENCE):
                    loop.call_soon_threadsafe(self._callback)
            time.sleep(RETRY)
