"""The envelope of every event: CloudEvents 1.0, as the fields of one Redis stream entry."""

from collections.abc import Sequence
from typing import Any

import msgspec

SPECVERSION = "1.0"
CONTENT_TYPE = "application/json"
FIELDS = ("id", "source", "specversion", "type", "subject", "time", "datacontenttype", "data")

TYPES = (
    "canhazgpu.gpu.changed",
    "canhazgpu.gpu.failed",
    "canhazgpu.gpu.recovered",
    "canhazgpu.gpu.drained",
    "canhazgpu.gpu.undrained",
    "canhazgpu.gpu.managed",
    "canhazgpu.gpu.unmanaged",
    "canhazgpu.gpu.renumbered",
    "canhazgpu.gpu.removed",
    "canhazgpu.reservation.created",
    "canhazgpu.reservation.extended",
    "canhazgpu.reservation.expiring",
    "canhazgpu.reservation.idle",
    "canhazgpu.reservation.used",
    "canhazgpu.reservation.disowned",
    "canhazgpu.reservation.restored",
    "canhazgpu.reservation.renamed",
    "canhazgpu.reservation.labelled",
    "canhazgpu.reservation.widened",
    "canhazgpu.reservation.ended",
    "canhazgpu.reservation.released",
    "canhazgpu.request.queued",
    "canhazgpu.request.left",
    "canhazgpu.request.renamed",
    "canhazgpu.booking.created",
    "canhazgpu.booking.reminder",
    "canhazgpu.booking.begun",
    "canhazgpu.booking.ended",
    "canhazgpu.booking.late",
    "canhazgpu.booking.missed",
    "canhazgpu.booking.cancelled",
    "canhazgpu.booking.restored",
    "canhazgpu.host.renamed",
    "canhazgpu.scanner.stalled",
    "canhazgpu.scanner.resumed",
    "canhazgpu.violation.opened",
    "canhazgpu.violation.updated",
    "canhazgpu.violation.closed",
    "canhazgpu.notice.created",
    "canhazgpu.notice.attempted",
    "canhazgpu.silence.added",
    "canhazgpu.silence.ended",
    "canhazgpu.process.signalled",
    "canhazgpu.consumer_group.abandoned",
    "canhazgpu.consumer_group.resumed",
)

GAP = "canhazgpu.stream.gap"  # Never stored in a stream; it tells a reader that events are missing.


def matches(event_type: str, types: Sequence[str]) -> bool:
    """Return whether a type matches a name: complete, without `canhazgpu.`, or by its first words."""
    short = event_type.removeprefix("canhazgpu.")
    names = [name.removeprefix("canhazgpu.").rstrip(".*") for name in types]
    return not names or any(short == name or short.startswith(name + ".") for name in names)


class Undecodable(ValueError):
    """The stream entry is not an event of canhazgpu."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `id` increases within a `source`; `data` depends on `type`."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: dict[str, Any]
    specversion: str = SPECVERSION
    datacontenttype: str = CONTENT_TYPE

    def to_fields(self) -> dict[str, bytes]:
        """Return the fields of the stream entry; `data` is JSON, everything else is text."""
        fields = {name: str(getattr(self, name)).encode() for name in FIELDS if name != "data"}
        return {**fields, "data": msgspec.json.encode(self.data)}


def decode(fields: dict[bytes, bytes] | None) -> Event:
    """Return the event in a stream entry, as bytes from redis-py.

    Raises Undecodable for an entry that was trimmed, is incomplete, or is not valid UTF-8 or JSON.
    """
    if not fields:
        message = "the entry is empty: it was trimmed"
        raise Undecodable(message)
    try:
        text = {name: fields[name.encode()].decode() for name in FIELDS if name != "data"}
        if text["specversion"] != SPECVERSION:
            message = f"specversion {text['specversion'][:20]!r} is not {SPECVERSION}"
            raise Undecodable(message)
        data = msgspec.json.decode(fields[b"data"], type=dict[str, Any])
    except KeyError as missing:
        message = f"the field {missing} is missing"
        raise Undecodable(message) from missing
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(str(error)) from error
    return Event(**text, data=data)
