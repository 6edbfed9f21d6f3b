"""Waiting on a condition with a bound, never for a fixed time."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")
LONGEST = 6.0  # A bound is at most so many times as long on a busy machine.


async def eventually(condition: Callable[[], Awaitable[T]], seconds: float = 5.0) -> T:
    """Return the first true value of `condition()`; fail after `seconds`."""
    began = time.monotonic()
    while not (value := await condition()):
        assert time.monotonic() < began + seconds * slowness(), f"waited {seconds:g} s in vain"
        await anyio.sleep(0.01)
    return value


def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Return the first true value of `condition()`; fail after `seconds`. What takes longer is asked less."""
    began = time.monotonic()
    while not (value := condition()):
        asked = time.monotonic()
        assert asked < began + seconds * slowness(), f"waited {seconds:g} s in vain {what}"
        time.sleep(min(0.1, max(0.02, (asked - began) / 20)))
    return value


def slowness() -> float:
    """Return how many programs want each processor, from 1 to LONGEST: each waits so much longer for it."""
    return min(LONGEST, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
