"""Logs values in Redis that nobody can read, once each: they are left out, and all the rest goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import msgspec
import structlog

# What msgspec and the parts of a value raise; also a value that is nested too deeply.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError)
LONGEST = 500  # Bytes of a value that are logged.
_of_another_host = ContextVar("_of_another_host", default=False)


@contextmanager
def of_another_host() -> Iterator[None]:
    """Read values that another host wrote: nothing is logged, or that host could fill the log of this one."""
    token = _of_another_host.set(True)
    try:
        yield
    finally:
        _of_another_host.reset(token)


def is_logged() -> bool:
    """Return whether an unreadable value is worth a line in the log."""
    return not _of_another_host.get()


def log_unreadable(kind: str, name: str, error: Exception, text: bytes) -> None:
    """Log that a value is left out, with the reason."""
    if is_logged():
        _say(kind, name, f"{type(error).__name__}: {error}", text[:LONGEST])


@lru_cache(maxsize=1000)
def _say(kind: str, name: str, why: str, text: bytes) -> None:
    structlog.get_logger().error("unreadable", kind=kind, id=name, reason=why, text=repr(text), remedy="")
