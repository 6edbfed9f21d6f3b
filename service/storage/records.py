"""Reads reservations, requests and bookings from Redis. Unreadable ones are left out and logged once."""

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec
import structlog

from canhazgpu.events.reservations import Booked, Record, Waiting
from canhazgpu.events.unreadable import is_logged

T = TypeVar("T", Record, Waiting, Booked)


def records(rows: Mapping[bytes, bytes]) -> list[Record]:
    """Return the reservations in a hash, the oldest first."""
    return sorted(_readable(rows, Record), key=lambda one: (one.started_ms, one.id))


def requests(rows: Mapping[bytes, bytes]) -> list[Waiting]:
    """Return the requests in a hash in the order of the queue."""
    return sorted(_readable(rows, Waiting), key=lambda one: one.place)


def bookings(rows: Mapping[bytes, bytes]) -> list[Booked]:
    """Return the bookings in a hash, earliest first."""
    return sorted(_readable(rows, Booked), key=lambda one: (one.begin_ms, one.id))


def _readable(rows: Mapping[bytes, bytes], kind: type[T]) -> list[T]:
    found = []
    for name, text in rows.items():
        try:
            found.append(msgspec.json.decode(text, type=kind))
        except (msgspec.DecodeError, RecursionError) as error:
            if is_logged():
                _log_unreadable(name.decode(errors="backslashreplace"), kind.__name__, str(error), text[:500])
    return found


@lru_cache(maxsize=1000)
def _log_unreadable(name: str, kind: str, why: str, text: bytes) -> None:
    remedy = "its GPUs are kept out of allocation: `canhazgpu admin release --gpu-ids` frees them"
    structlog.get_logger().error(
        "unreadable",
        kind=kind,
        id=name,
        reason=why,
        text=repr(text),
        remedy=remedy if kind == "Record" else "",
    )
