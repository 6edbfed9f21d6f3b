"""The events stream as lines of JSON: what is there, and what comes, for as long as somebody reads."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from canhazgpu.events.envelope import Event, Undecodable, decode, wanted
from canhazgpu.events.notices import CREATED
from canhazgpu.events.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.service.masks import Viewer

PAGE = 200
BLOCK = 15.0  # Seconds between two signs of life on a quiet stream.


async def feed(
    store: Store, after: str, types: Sequence[str], viewer: Viewer, *, follow: bool
) -> AsyncIterator[bytes]:
    """Yield one line an event after the stream id `after`; with `follow` it ends only with its reader.

    Each line has `stream_id`, to go on from, and is as `viewer` may see it. A quiet stream gives an empty
    line now and then.
    """
    async for key, event in _past(store, after):
        after = key
        if wanted(event.type, types):
            yield _line(key, event, viewer)
    if not follow:
        return
    client = store.blocking(BLOCK)
    try:
        while True:
            try:
                reply: Any = await client.xread(
                    {store.keys.events: after}, count=PAGE, block=int(BLOCK * 1000)
                )
            except UNREACHABLE:
                return  # The reader comes back, and goes on from where it was.
            if not reply:
                yield b"\n"
                continue
            for raw, fields in reply[0][1]:
                after = raw.decode()
                fresh = _event(fields)
                if fresh and wanted(fresh.type, types):
                    yield _line(after, fresh, viewer)
    finally:
        await client.aclose()


async def newest(store: Store, count: int) -> str:
    """Return the stream id after which the last `count` events come. Raises StoreDown."""
    try:
        rows: Any = await store.redis.xrevrange(store.keys.events, count=count + 1)
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    return rows[count][0].decode() if len(rows) > count else "0-0"


async def _past(store: Store, after: str) -> AsyncIterator[tuple[str, Event]]:
    while True:
        try:
            page: Any = await store.redis.xrange(store.keys.events, f"({after}", "+", count=PAGE)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        for raw, fields in page:
            after = raw.decode()
            event = _event(fields)
            if event:
                yield after, event
        if len(page) < PAGE:
            return


def _event(fields: dict[bytes, bytes]) -> Event | None:
    try:
        return decode(fields)
    except Undecodable:
        return None


def _line(key: str, event: Event, viewer: Viewer) -> bytes:
    data = viewer.notice(event.data) if event.type == CREATED else event.data
    return msgspec.json.encode({"stream_id": key, **msgspec.structs.asdict(event), "data": data}) + b"\n"
