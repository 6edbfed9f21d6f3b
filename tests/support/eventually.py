"""Waiting on a condition with a bound, never for a fixed time."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def eventually(condition: Callable[[], Awaitable[T]], seconds: float = 5.0) -> T:
    """Return the first true value of `condition()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        await anyio.sleep(0.01)
    return value


def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Return the first true value of `condition()`; fail after `seconds`. What takes longer is asked less."""
    began = time.monotonic()
    while not (value := condition()):
        asked = time.monotonic()
        assert asked < began + seconds, f"waited {seconds:g} s in vain {what}"
        time.sleep(min(0.1, max(0.02, (asked - began) / 20)))
    return value
