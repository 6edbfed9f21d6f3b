"""Lets what looks at something now and then do so when a scan ends, so that it does not wake the service."""

import time
from collections.abc import Callable

import anyio


class Pace:
    """A pause that ends with the first scan that ends after `every` seconds."""

    def __init__(self, every: float) -> None:
        """Begin the first pause."""
        self._every, self._last = every, time.monotonic()
        self._due = anyio.Event()

    def check(self) -> None:
        """End the pause, if it is time; called whenever a scan has ended."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            due, self._due = self._due, anyio.Event()
            due.set()

    async def pause(self) -> None:
        """Wait for the end of the pause."""
        await self._due.wait()


def at_most_every(seconds: float, check: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls `check`, but not within so many seconds of its last call."""
    last = float("-inf")

    def paced() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            check()

    return paced
