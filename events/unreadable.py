"""Logs values in Redis that nobody can read, once each: they are left out, and all the rest goes on."""

from functools import lru_cache

import msgspec
import structlog

# What msgspec and the parts of a value raise; also a value that is nested too deeply.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError)
LONGEST = 500  # Bytes of a value that are logged.


def log_unreadable(kind: str, name: str, error: Exception, text: bytes) -> None:
    """Log that a value is left out, with the reason."""
    _say(kind, name, f"{type(error).__name__}: {error}", text[:LONGEST])


@lru_cache(maxsize=1000)
def _say(kind: str, name: str, why: str, text: bytes) -> None:
    structlog.get_logger().error("unreadable", kind=kind, id=name, reason=why, text=repr(text), remedy="")
