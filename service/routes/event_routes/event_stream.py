"""Streams the events as lines of JSON: past events, and new ones as long as the client reads."""

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from canhazgpu.events.envelope import GAP, Event, Undecodable, decode
from canhazgpu.events.notices import ATTEMPTED, CREATED, Delivery
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.events.redis_client.stream_ids import before, count_missing, missing_since, place_of
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.routes.event_routes.event_filter import EventFilter
from canhazgpu.service.routes.operation import FLAG, TEXT, Operation

PAGE = 200
BLOCK = 15.0  # Seconds between keep-alives on a quiet stream.

EVENTS = Operation(
    method="get",
    path="/v1/events",
    about="CloudEvents as JSON lines. In canhazgpu.stream.gap, data.missing is how many events are lost.",
    reply=None,
    query={
        "stream": ({"enum": ["events", "deliveries"]}, "deliveries: the attempts to deliver notices."),
        "after": (TEXT, "A stream id; only events after it."),
        "type": (TEXT, "A type or the beginning of one; repeatable."),
        "follow": (FLAG, "1: continue with new events; not with `until`."),
        "since": (TEXT, "Events since this time; as for violations (default with any other filter: 7d)."),
        "until": (TEXT, "Events until this time; same syntax."),
        "user": (TEXT, "Only events that name this user."),
        "gpu": (TEXT, "Only events about this GPU."),
        "n": (TEXT, "At most this many past events, the newest ones."),
    },
)


async def feed(  # noqa: PLR0913 - each is a part of the request
    store: Store, after: str, wanted: EventFilter, viewer: Viewer, *, follow: bool, stream: str = "events"
) -> AsyncIterator[bytes]:
    """Yield one line per event of `stream` after the id `after`; with `follow`, until the client disconnects.

    Each line has a `stream_id` to continue from, and is redacted for `viewer`. If entries are missing, a line
    of the type GAP is sent, whatever types were requested. A quiet stream sends empty lines as keep-alives.
    """
    feed = _Feed(store, after, wanted, viewer, stream)
    newest: deque[bytes] = deque(maxlen=wanted.newest)
    async for page in _past(store, feed.key, after, wanted.until_ms):
        for line in await feed.lines(page):
            if wanted.newest is None:
                yield line
            else:
                newest.append(line)
    for line in newest:
        yield line
    if not follow:
        return
    client = store.blocking(BLOCK)
    try:
        while True:
            try:
                reply: Any = await client.xread({feed.key: feed.after}, count=PAGE, block=int(BLOCK * 1000))
                lines = await feed.lines(reply[0][1]) if reply else [b"\n"]
            except (*UNREACHABLE, StoreDown):
                return  # The reader comes back, and goes on from where it was.
            for line in lines:
                yield line
    finally:
        await client.aclose()


class _Feed:
    """The position and the filter of one client."""

    def __init__(self, store: Store, after: str, wanted: EventFilter, viewer: Viewer, stream: str) -> None:
        self.key, self._stream = store.keys.streams[stream], stream
        self.after = after
        self._store, self._wanted, self._viewer = store, wanted, viewer
        self._begun = False

    async def lines(self, rows: Any) -> list[bytes]:
        """Return the lines for the next entries of the stream. Raises StoreDown."""
        found = []
        for raw, fields in rows:
            key = raw.decode()
            gone = await self._gone(key)
            if gone != 0:
                found.append(_gap(self._store.keys.host, self._stream, self.after, key, gone))
            self.after, event = key, _event(fields)
            if event and self._wanted.fits(event):
                found.append(_line(key, event, self._viewer))
        return found

    async def _gone(self, key: str) -> int | None:
        begun, self._begun = self._begun, True
        if begun or place_of(self.after)[1]:
            return count_missing(self.after, key)
        first: Any = await self._store.ask(self._store.redis.xrange(self.key, count=1))
        return missing_since(self.after, first[0][0].decode()) if first else 0


async def newest(store: Store, count: int, stream: str = "events") -> str:
    """Return the stream id before the last `count` events of `stream`. Raises StoreDown."""
    try:
        rows: Any = await store.redis.xrevrange(store.keys.streams[stream], count=count + 1)
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    if len(rows) > count:
        return str(rows[count][0].decode())
    return before(rows[-1][0].decode()) if rows else "0-0"


async def _past(store: Store, key: str, after: str, until_ms: int | None) -> AsyncIterator[Any]:
    end = "+" if until_ms is None else str(until_ms)
    while True:
        try:
            page: Any = await store.redis.xrange(key, f"({after}", end, count=PAGE)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        yield page
        if len(page) < PAGE:
            return
        after = page[-1][0].decode()


def _event(fields: dict[bytes, bytes]) -> Event | None:
    try:
        event = decode(fields)
        if event.type == ATTEMPTED:
            msgspec.convert(event.data, Delivery)
    except (Undecodable, msgspec.ValidationError):
        return None
    return event


def _line(key: str, event: Event, viewer: Viewer) -> bytes:
    data: Any = viewer.notice(event.data) if event.type == CREATED else event.data
    if event.type == ATTEMPTED:
        (data,) = viewer.deliveries([msgspec.convert(event.data, Delivery)])
    return msgspec.json.encode({"stream_id": key, **msgspec.structs.asdict(event), "data": data}) + b"\n"


def _gap(host: str, stream: str, after: str, key: str, gone: int | None) -> bytes:
    """Return the line that reports how many events between `after` and the entry `key` are missing."""
    place = before(key)
    event = Event(
        id=place,
        source=f"//{host}/canhazgpu",
        type=GAP,
        subject=f"stream/{stream}",
        time=rfc3339(place_of(key)[0]),
        data={"missing": gone, "after": after, "before": key},
    )
    return msgspec.json.encode({"stream_id": place, **msgspec.structs.asdict(event)}) + b"\n"
