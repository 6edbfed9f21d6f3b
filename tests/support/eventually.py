"""Waiting on a condition with a bound, never for a fixed time."""

import time
from collections.abc import Awaitable, Callable
from os import cpu_count
from pathlib import Path
from typing import Any, TypeVar

import anyio

T = TypeVar("T")
LONGEST = 6.0  # A bound is at most so many times as long on a busy machine.
TURN = 1.0  # Seconds that one question counts at most: the machine may have been halted.
LOAD = Path("/proc/loadavg")


async def eventually(condition: Callable[[], Awaitable[T]], seconds: float = 30.0) -> T:
    """Return the first true value of `condition()`; fail after `seconds`."""
    bound = _Bound(seconds)
    while not (value := await condition()):
        bound.check()
        await anyio.sleep(0.01)
    return value


def until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Return the first true value of `condition()`; fail after `seconds`. What takes longer is asked less."""
    bound = _Bound(seconds, what)
    while not (value := condition()):
        bound.check()
        time.sleep(min(0.1, max(0.02, bound.waited / 20)))
    return value


class _Bound:
    """The seconds that a condition may take. The last time that it is asked is after the bound."""

    def __init__(self, seconds: float, what: str = "") -> None:
        self.waited, self._asked, self._longest = 0.0, time.monotonic(), 0.0
        self._seconds, self._what = seconds, what

    def check(self) -> None:
        """Fail if the condition was false for too long."""
        assert self.waited <= self._longest, f"waited {self._seconds:g} s in vain {self._what}"
        now = time.monotonic()
        self.waited += min(TURN, now - self._asked)
        self._asked = now
        self._longest = max(self._longest, self._seconds * slowness())


def slowness() -> float:
    """Return how many programs want each processor, from 1 to LONGEST: each waits so much longer for it.

    The average of the last minute knows nothing yet of what has just begun.
    """
    average, _, _, running, _ = LOAD.read_text().split()
    wanted = max(float(average), int(running.partition("/")[0]) - 1)  # This one runs, too.
    return min(LONGEST, max(1.0, wanted / (cpu_count() or 1)))
