"""Notices that Redis sends nothing, before the timeout of a command says so. It never talks to Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Silence:
    """For how long something was asked and nothing came: a slow server that answers others is not silent."""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self._asked: dict[object, float] = {}  # When; on the monotonic clock.
        self._heard = time.monotonic()
        self._waiting: dict[anyio.CancelScope, tuple[float, float]] = {}

    @property
    def seconds(self) -> float:
        """The seconds since the last reply or the oldest question, 0 if nothing is asked."""
        oldest = min(self._asked.values(), default=None)
        return 0.0 if oldest is None else time.monotonic() - max(oldest, self._heard)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask Redis in this block. An error is no reply."""
        question = object()
        self._asked[question] = time.monotonic()
        try:
            yield
            self._hear()
        finally:
            del self._asked[question]

    @contextmanager
    def limit(self, quiet: float, longest: float) -> Iterator[None]:
        """Raise TimeoutError in this block after `quiet` seconds without any reply, and after `longest`."""
        now = anyio.current_time()
        over = now + longest
        with anyio.CancelScope(deadline=min(over, now + quiet)) as scope:
            self._waiting[scope] = (quiet, over)
            try:
                with self.asking():
                    yield
            finally:
                del self._waiting[scope]
        if scope.cancelled_caught:
            raise TimeoutError

    def _hear(self) -> None:
        self._heard = time.monotonic()
        now = anyio.current_time() if self._waiting else 0.0
        for scope, (quiet, over) in self._waiting.items():
            scope.deadline = min(over, now + quiet)
