"""Copies a host's data out of Redis as a consistent snapshot, and into Redis atomically.

At most one large key is in memory. New data is staged under other names and replaces the old data in one
transaction; until then nothing changes.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.service.backup.archive import Group, Key, Record, Tail

ATTEMPTS = 20  # A new key restarts the copy.
MOST_PENDING = 100_000
STAGED = "restoring:"
CACHES = ("operation:", STAGED)  # Keys that are not needed later.


class CopyFailed(Exception):
    """The copy failed and nothing was changed; the message says why and what to do."""


class _Stream(msgspec.Struct):
    last: bytes
    groups: list[bytes]


async def names(store: Store) -> list[str]:
    """Return the names of the host's keys, without its prefix. Raises StoreDown."""
    found: Any = await store.ask(store.redis.keys(_pattern(store.keys.prefix) + "*"))
    return _names(store, found)


async def read_snapshot(store: Store) -> AsyncIterator[Record]:
    """Yield the host's data as of the time of the last transaction. Raises StoreDown.

    Streams are copied first, one at a time. One transaction then reads everything else, and the entries that
    the streams got in the meantime.
    """
    try:
        streams: dict[str, _Stream] = {}
        for _ in range(ATTEMPTS):
            for name in await names(store):
                if name not in streams and await _type(store, name) == "stream":
                    streams[name], record = await _stream(store, name)
                    yield record
            rest = await _rest(store, streams)
            if rest is not None:
                for record in rest:
                    yield record
                return
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    raise CopyFailed("the keys change too fast; stop the service and try again")


async def _stream(store: Store, name: str) -> tuple[_Stream, Record]:
    key = store.keys.prefix + name
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.xinfo_stream(key)
        pipe.xinfo_groups(key)
        pipe.dump(key)
        facts, groups, value = await pipe.execute()
    found = _Stream(facts["last-generated-id"], [one["name"] for one in groups])
    return found, Key(name=name, expires_ms=0, value=value)


async def _rest(store: Store, streams: dict[str, _Stream]) -> list[Record] | None:
    """Return the data that is not in the copied streams, or None if there is a new stream."""
    prefix = store.keys.prefix
    plain = [name for name in await names(store) if name not in streams]
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.keys(_pattern(prefix) + "*")
        for name in plain:
            pipe.dump(prefix + name)
            pipe.pttl(prefix + name)
        for name, stream in streams.items():
            pipe.xrange(prefix + name, b"(" + stream.last, "+")
            pipe.xinfo_groups(prefix + name)
            for group in stream.groups:
                pipe.xpending_range(prefix + name, group, "-", "+", MOST_PENDING)
        there, *answers = await pipe.execute()
    if set(_names(store, there)) - {*plain, *streams}:
        return None
    rows = iter(answers)
    found: list[Record] = []
    for name in plain:
        value, left = next(rows), next(rows)
        if value is not None:
            found.append(Key(name=name, expires_ms=max(0, left), value=value))
    for name, stream in list(streams.items()):
        entries, groups, pending = next(rows), next(rows), [next(rows) for _ in stream.groups]
        if len(groups) > len(stream.groups):
            del streams[name]  # A group is new: the stream is copied again.
            return None
        found += _since(name, stream, entries, groups, pending)
    return found


def _since(name: str, stream: _Stream, entries: Any, groups: Any, pending: list[Any]) -> list[Record]:
    """Return the changes to a stream since it was copied."""
    found: list[Record] = []
    if entries:
        found.append(Tail(name=name, entries=[(entry, _flat(fields)) for entry, fields in entries]))
    last = {one["name"]: one["last-delivered-id"] for one in groups}
    for group, rows in zip(stream.groups, pending, strict=True):
        had = [(one["message_id"], one["consumer"]) for one in rows]
        found.append(Group(name=name, group=group, last=last[group], pending=had))
    return found


class Stage:
    """Stages copied data under other names; `commit` replaces the old data with it."""

    def __init__(self, store: Store) -> None:
        """Use the host of `store`."""
        self._store = store
        self._staged = store.keys.prefix + STAGED
        self.names: dict[str, None] = {}  # In the order in which they came.

    async def clear(self) -> None:
        """Remove data that was staged but not committed. Raises StoreDown."""
        left: Any = await self._store.ask(self._store.redis.keys(_pattern(self._staged) + "*"))
        for key in left:
            await self._store.ask(self._store.redis.delete(key))

    async def put(self, record: Record) -> None:
        """Stage a record. Raises StoreDown or CopyFailed."""
        try:
            await self._put(record)
        except ResponseError as error:
            if "DUMP payload" not in str(error):
                raise CopyFailed(f"{self._store.keys.prefix}{record.name}: {error}") from error
            raise CopyFailed(
                "this server is older than the one that the data comes from, or of another kind;"
                " use the same version or a newer one"
            ) from error
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error

    async def _put(self, record: Record) -> None:
        redis, key = self._store.redis, self._staged + record.name
        if isinstance(record, Key):
            await redis.restore(key, record.expires_ms, record.value, replace=True)
            self.names[record.name] = None
        elif isinstance(record, Tail):
            for entry, flat in record.entries:
                fields: Any = dict(zip(flat[::2], flat[1::2], strict=True))
                await redis.xadd(key, fields, id=entry.decode())
        else:
            await self._place(key, record)

    async def _place(self, key: str, record: Group) -> None:
        """Restore the position and the pending entries of a consumer group."""
        redis = self._store.redis
        name = record.group.decode()
        await redis.xgroup_setid(key, name, record.last.decode())
        rows: Any = await redis.xpending_range(key, name, "-", "+", MOST_PENDING)
        had, has = {one["message_id"] for one in rows}, dict(record.pending)
        if had - has.keys():
            await redis.xack(key, name, *(had - has.keys()))
        for entry in has.keys() - had:
            await redis.xclaim(key, name, has[entry].decode(), 0, [entry], force=True, justid=True)

    async def commit(self) -> None:
        """Replace the host's keys with the staged ones in one transaction. Raises StoreDown."""
        prefix = self._store.keys.prefix
        there = await names(self._store)
        try:
            async with self._store.redis.pipeline(transaction=True) as pipe:
                for name in there:
                    pipe.delete(prefix + name)
                for name in self.names:
                    pipe.rename(self._staged + name, prefix + name)
                await pipe.execute()
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error


async def sizes(store: Store) -> dict[str, tuple[str, int]]:
    """Return the type and size of each key, to compare two copies. Raises StoreDown."""
    count = {"hash": "HLEN", "zset": "ZCARD", "stream": "XLEN", "string": "STRLEN"}
    found = {}
    for name in sorted(await names(store)):
        kind = await _type(store, name)
        question: Any = store.redis.execute_command
        found[name] = (kind, await store.ask(question(count[kind], store.keys.prefix + name)))
    return found


async def _type(store: Store, name: str) -> str:
    kind: Any = await store.ask(store.redis.type(store.keys.prefix + name))
    return str(kind.decode())


def _names(store: Store, keys: list[bytes]) -> list[str]:
    bare = sorted(key.decode().removeprefix(store.keys.prefix) for key in keys)
    return [name for name in bare if not name.startswith(CACHES)]


def _flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


def _pattern(prefix: str) -> str:
    """Return a prefix escaped for KEYS."""
    return prefix.replace("[", "\\[").replace("?", "\\?").replace("*", "\\*")
