"""Reads a stream from some place on, without a consumer group: nothing is stored or kept for it."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from canhazgpu.events.consumer.parameters import check_place, check_source
from canhazgpu.events.consumer.stream_event import StreamEvent, event_of, gap_event, key_of
from canhazgpu.events.envelope import GAP, Undecodable, matches
from canhazgpu.events.redis_client.cancellation import cancellable, check_cancelled
from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.redis_client.stream_ids import count_missing, missing_since, place_of

LOG = logging.getLogger("canhazgpu.events")
PAGE = 200
BLOCK = 30.0  # Seconds.
PAUSE_FIRST, PAUSE_LAST = 0.1, 5.0  # Seconds between two attempts to reach Redis.
BEGINNING = "0-0"


def follow(
    where: str | Endpoint,
    *,
    host: str,
    stream: str = "events",
    types: Sequence[str] = (),
    after: str | None = None,
) -> AsyncIterator[StreamEvent]:
    """Yield the events of a stream as they come, for ever.

    `where` is the URL of the Redis. `after`: the `stream_id` to continue from, `0` for the oldest entry, or
    None for new events only. `types` selects types such as `violation` or `gpu.failed`. Where entries are
    missing, there is an event of the type `canhazgpu.stream.gap`, whatever the types. While Redis does not
    answer, it is asked again. Raises ValueError at once if a parameter cannot be right, for instance if there
    is no such stream.
    """
    key_of(host, stream)
    check_source(where, host, types)
    check_place(after)
    return _follow(where, host, stream, types, after)


async def _follow(
    where: str | Endpoint, host: str, stream: str, types: Sequence[str], after: str | None
) -> AsyncIterator[StreamEvent]:
    key = key_of(host, stream)
    store = Store(where, host)
    redis = store.blocking(BLOCK)
    reader = _Reader(store, redis, key, stream, after)
    pause = PAUSE_FIRST
    try:
        while True:
            check_cancelled()
            try:
                events = await reader.events()
            except StoreDown as down:
                LOG.warning("%s; trying again", down)
                await anyio.sleep(pause)
                pause = min(pause * 2, PAUSE_LAST)
                continue
            pause = PAUSE_FIRST
            for event in events:
                if event.type == GAP or matches(event.type, types):
                    yield event
    finally:
        with anyio.CancelScope(shield=True):
            await redis.aclose()
            await store.close()


class _Reader:
    """The place in the stream."""

    def __init__(self, store: Store, redis: Redis, key: str, stream: str, after: str | None) -> None:
        self._store, self._redis = store, redis
        self._key, self._stream = key, stream
        self._after = after

    async def events(self) -> list[StreamEvent]:
        """Return the next events, after a while none. Raises StoreDown."""
        if self._after is None:
            self._after = await self._last()
        asked: Any = {self._key: self._after}
        reading = self._redis.xread(asked, count=PAGE, block=int(BLOCK * 1000))
        reply: Any = await cancellable(self._store.ask(reading))
        found = []
        for raw, fields in reply[0][1] if reply else ():
            entry = raw.decode()
            missing = await self._missing(self._after, entry)
            if missing != 0:
                found.append(gap_event(self._store.keys.host, self._stream, missing, self._after, entry))
            self._after = entry
            try:
                found.append(event_of(entry, fields))
            except Undecodable as error:
                LOG.warning("the entry %s of %s is left out: %s", entry, self._key, error)
        return found

    async def _missing(self, after: str, entry: str) -> int | None:
        if place_of(after)[1]:
            return count_missing(after, entry)
        first: Any = await self._store.ask(self._redis.xrange(self._key, count=1))
        return missing_since(after, first[0][0].decode()) if first else 0

    async def _last(self) -> str:
        try:
            facts: Any = await self._store.ask(self._redis.xinfo_stream(self._key))
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return BEGINNING
        return str(facts["last-generated-id"].decode())
