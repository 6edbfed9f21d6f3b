"""Reads one stream of events as they come, in a thread of its own, and passes each one on once."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from canhazgpu.client.connection import Client, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 1.0  # Seconds between attempts to reach the service.
SILENCE = 45.0  # Seconds; a quiet stream sends a keep-alive every 15 s.
FIRST = "0-0"


class EventFeed(Thread):
    """Starts with the events that come after it was made. After an interruption it continues where it was."""

    def __init__(self, client: Client, stream: str, count: Callable[[dict[str, Any]], None]) -> None:
        """Follow `stream`, events or deliveries; `count` gets each event."""
        super().__init__(daemon=True, name=f"feed of {stream}")
        self._client, self._path, self._count = client, f"/v1/events?stream={stream}", count
        self._place: str | None = None
        self._pause = Event()

    def find_place(self) -> None:
        """Note the last event until now, if the service answers: those after it will be counted."""
        try:
            self._place = self._newest()
        except (Unreachable, Refused):
            return

    def run(self) -> None:
        """Follow the stream for ever."""
        while True:
            try:
                if self._place is None:
                    self._place = self._newest()
                for event in self._follow(self._place):
                    self._count(event)
                    self._place = event["stream_id"]
            except (Unreachable, Refused):
                pass
            self._pause.wait(PAUSE)

    def _newest(self) -> str:
        past = list(Client(self._client.socket).lines(self._path, silence=SILENCE))
        return str(past[-1]["stream_id"]) if past else FIRST

    def _follow(self, place: str) -> Any:
        path = f"{self._path}&after={place}&follow=1"
        return Client(self._client.socket).lines(path, silence=SILENCE)
