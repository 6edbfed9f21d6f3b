"""An event as a consumer gets it: with its place in the stream, and its data as a type."""

import msgspec

from canhazgpu.events.envelope import GAP, TYPES, Event, decode
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.stream_ids import before, place_of
from canhazgpu.events.schemas import data_of
from canhazgpu.events.timestamps import rfc3339


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.stream.gap`: entries were removed before they were read.

    `missing` of them, after the entry `after` and before the entry `before`; None if the number is unknown.
    """

    missing: int | None
    after: str
    before: str


class StreamEvent(Event, frozen=True, kw_only=True):
    """An event, the id of its entry in the stream, and how many times it was attempted to handle it.

    The type `canhazgpu.stream.gap` is not in the stream: it tells where entries are missing.
    """

    stream_id: str
    attempt: int = 1

    def typed(self) -> msgspec.Struct | None:
        """Return the data as its type, such as Violation; None if this version does not know the type.

        Fields that this version does not know are left out. Raises msgspec.ValidationError.
        """
        if self.type == GAP:
            return msgspec.convert(self.data, Gap)
        return msgspec.convert(self.data, data_of(self.type)) if self.type in TYPES else None


def event_of(entry: str, fields: dict[bytes, bytes] | None, attempt: int = 1) -> StreamEvent:
    """Return the event in a stream entry. Raises Undecodable."""
    event = decode(fields)
    return StreamEvent(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=event.time,
        data=event.data,
        stream_id=entry,
        attempt=attempt,
    )


def gap_event(host: str, stream: str, missing: int | None, after: str, key: str) -> StreamEvent:
    """Return the event that tells of a gap before the entry `key`. A reader can continue from its id."""
    place = before(key)
    return StreamEvent(
        id=place,
        source=f"//{host}/canhazgpu",
        type=GAP,
        subject=f"stream/{stream}",
        time=rfc3339(place_of(key)[0]),
        data={"missing": missing, "after": after, "before": key},
        stream_id=place,
    )


def key_of(host: str, stream: str) -> str:
    """Return the key of a public stream by its name. Raises ValueError."""
    streams = Keys(host).streams
    if stream not in streams:
        raise ValueError(f"there is no stream {stream!r}: use one of {', '.join(streams)}")
    return streams[stream]
