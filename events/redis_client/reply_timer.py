"""Detects that Redis sends no replies, before a command times out. It never talks to Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class ReplyTimer:
    """Measures how long Redis has owed a reply. A slow server that answers other commands is not silent."""

    def __init__(self) -> None:
        """Start without an outstanding command."""
        self._outstanding: dict[object, float] = {}  # Monotonic times.
        self._last_reply = time.monotonic()
        self._waiting: dict[anyio.CancelScope, tuple[float, float]] = {}

    @property
    def seconds(self) -> float:
        """The seconds since the last reply or the oldest outstanding command; 0 if there is none."""
        oldest = min(self._outstanding.values(), default=None)
        return 0.0 if oldest is None else time.monotonic() - max(oldest, self._last_reply)

    @contextmanager
    def expect_reply(self) -> Iterator[None]:
        """Count the block as an outstanding command. If it raises, there was no reply."""
        command = object()
        self._outstanding[command] = time.monotonic()
        try:
            yield
            self._record_reply()
        finally:
            del self._outstanding[command]

    @contextmanager
    def limit(self, quiet: float, longest: float) -> Iterator[None]:
        """Raise TimeoutError in this block after `quiet` seconds without any reply, and after `longest`."""
        now = anyio.current_time()
        over = now + longest
        with anyio.CancelScope(deadline=min(over, now + quiet)) as scope:
            self._waiting[scope] = (quiet, over)
            try:
                with self.expect_reply():
                    yield
            finally:
                del self._waiting[scope]
        if scope.cancelled_caught:
            raise TimeoutError

    def _record_reply(self) -> None:
        self._last_reply = time.monotonic()
        now = anyio.current_time() if self._waiting else 0.0
        for scope, (quiet, over) in self._waiting.items():
            scope.deadline = min(over, now + quiet)
