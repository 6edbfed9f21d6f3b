"""A member of a consumer group. It handles every entry at least once, even after a crash.

It handles its own pending entries first, then those of members that are gone, then new ones. An entry that
cannot be decoded goes to the dead letters with its raw bytes, and the loop continues.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.events.envelope import Event, Undecodable, decode
from canhazgpu.events.redis_client.group_member import FIRST, NONE, GroupMember, Row
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.workers.state_owner import check_owner

BURY = Script("canhazgpu.workers", "bury")
CONSUMER = "worker"  # Members keep their name, so that they find their pending entries after a restart.
CLAIM_AFTER = 120.0  # Seconds; longer than any delivery.
LONGEST_BLOCK = 30.0
BATCH = 64
GIVE_WAY = 0.02  # Seconds: who caused an event gets the answer before anybody is told of it.
BACKOFF_FIRST, BACKOFF_LAST = 0.05, 1.0


class Entry(msgspec.Struct, frozen=True):
    """One stream entry: its id in the stream, and the event in it."""

    id: str
    event: Event


class Consumer:
    """Reads `stream` as a member of `group`. The group is created at the start of the stream."""

    def __init__(self, store: Store, stream: str, group: str, name: str = CONSUMER) -> None:
        """Store the parameters; nothing is read yet."""
        self.store = store
        self.stream = stream
        self.group = group
        self.name = name
        self._member = GroupMember(store, stream, group, name, longest=LONGEST_BLOCK)
        self._member.on_lost = self._log_lost

    async def run(
        self,
        take: Callable[[list[Entry]], Awaitable[None]],
        due: Callable[[], Awaitable[float]],
        task_status: TaskStatus[None],
    ) -> None:
        """Pass every entry to `take` until cancelled, pending ones first.

        `due` does the work whose time has come, and returns the seconds until there is more. While Redis is
        down, both wait; afterwards, reading starts again with the pending entries.
        """
        patience = Backoff(self.store)
        task_status.started()
        try:
            while True:
                try:
                    await take(await self.unfinished())
                    while True:
                        await check_owner(self.store)
                        entries = await self.new(await due())
                        if entries:
                            await anyio.sleep(GIVE_WAY)
                            # A blocking read lasts: the state may be another's by now.
                            await check_owner(self.store)
                            await take(entries)
                        patience.reset()
                except StoreDown as down:
                    await patience.wait(down)
        finally:
            with anyio.CancelScope(shield=True):
                await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._member.close()

    async def unfinished(self) -> list[Entry]:
        """Return the entries that were delivered to this member or to a dead one, and never acknowledged."""
        await check_owner(self.store)
        found: list[Row] = []
        after = FIRST
        while batch := await self._read(after, None):
            found += batch
            after = batch[-1][0].decode()
        # Report deleted entries now, because since Redis 7 claiming removes them.
        gone = [(key, fields) for key, fields in found if not fields]
        await self._decoded(gone)
        found = [(key, fields) for key, fields in found if fields]
        cursor: Any = NONE
        while True:
            cursor, claimed = await self._member.claim(cursor, CLAIM_AFTER, BATCH)
            found += [(key, fields) for key, fields in claimed if key is not None]
            if cursor in (NONE, NONE.encode()):
                break
        return await self._decoded(dict(found).items())

    async def new(self, longest: float) -> list[Entry]:
        """Return the next new entries; wait up to `longest` seconds for one."""
        block = max(1, round(min(longest, LONGEST_BLOCK) * 1000)) if longest > 0 else None
        return await self._decoded(await self._read(">", block))

    async def entry(self, entry_id: str) -> Entry | None:
        """Return one entry by its id, or None if it no longer exists."""
        rows: Any = await self.store.ask(self.store.redis.xrange(self.stream, entry_id, entry_id))
        entries = await self._decoded(rows)
        return entries[0] if entries else None

    async def acknowledge(self, *entries: str) -> None:
        """Acknowledge these entries."""
        await check_owner(self.store)
        await self._member.acknowledge(*entries)

    async def _read(self, after: str, block: int | None) -> list[Row]:
        await self._member.create()
        return await self._member.read(after, BATCH, block)

    def _log_lost(self) -> None:
        structlog.get_logger().error("consumer_group_lost", stream=self.stream, group=self.group)

    async def _decoded(self, rows: Any) -> list[Entry]:
        entries = []
        for key, fields in rows:
            try:
                entries.append(Entry(key.decode(), decode(fields)))
            except Undecodable as error:
                await self.bury(key.decode(), str(error), fields or {})
        return entries

    async def bury(self, entry: str, reason: str, fields: dict[bytes, bytes]) -> None:
        """Move an entry that cannot be read to the dead letters."""
        await check_owner(self.store)
        structlog.get_logger().error("entry_buried", stream=self.stream, entry=entry, reason=reason)
        flat = [part for pair in fields.items() for part in (b"raw:" + pair[0], pair[1])]
        keys = [self.stream, self.store.keys.deadletters]
        await self.store.run(BURY, keys, [self.group, entry, reason[:500], *flat])


class Backoff:
    """Waits with growing delays while Redis does not answer."""

    def __init__(self, store: Store) -> None:
        """Start with the shortest delay."""
        self._store = store
        self._next = BACKOFF_FIRST

    async def wait(self, down: StoreDown) -> None:
        """Log the reason and wait."""
        self._store.report_down(down)
        await anyio.sleep(self._next)
        self._next = min(self._next * 2, BACKOFF_LAST)

    def reset(self) -> None:
        """Start with the shortest delay again."""
        self._store.report_up()
        self._next = BACKOFF_FIRST
