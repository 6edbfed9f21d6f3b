"""The worker that keeps the host's copy on the fleet's Redis up to date.

While that Redis is away, nothing is read and nothing is kept in memory: the entries stay in the host's
streams, which are not trimmed for as long as retention allows, and are copied afterwards.
"""

import random
import time
from typing import Any

import anyio
import structlog
from anyio.abc import TaskStatus
from redis.exceptions import ResponseError

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.keys import GROUP_FLEET
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.workers.consumer import Backoff
from canhazgpu.workers.fleet.fleet_redis import FleetDown
from canhazgpu.workers.fleet.host_state import StateCopy
from canhazgpu.workers.fleet.past_copy import PastCopy
from canhazgpu.workers.fleet.stream_copy import Row, StreamCopy
from canhazgpu.workers.state_owner import check_owner

BATCH = 200  # Entries of one stream in one transaction.
GATHER = 0.3  # Seconds to wait for further events before the first is copied.
SETTLE = 1.0  # Seconds after an event until the state is copied.
PAUSE_FIRST, PAUSE_LAST = 0.2, 20.0  # Seconds between two attempts to reach the fleet's Redis.
TRIM_EVERY = 60.0
SAY_AGAIN = 600.0
REASON = 400  # Characters.


class Mirror:
    """Copies the five public streams and the state of `store` until cancelled."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Prepare connections, without opening one."""
        self._store, self._interval = store, settings.fleet.interval
        self._fleet = Store(settings.fleet.endpoint(), settings.host)
        keys = store.keys
        self._copies = {
            stream: StreamCopy(self._fleet.redis, name, stream, keys.fleet)
            for name, stream in keys.streams.items()
        }
        self._state = StateCopy(settings, store, self._fleet)
        self._past = PastCopy(store, self._fleet)
        self._fleet.connected = self._count_connection
        self._connections = 0
        self._redis = store.blocking(self._interval)
        self._pause = PAUSE_FIRST
        self._said: tuple[str, float] | None = None  # The last reason that was logged, and when.
        self._trimmed = 0.0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Copy until cancelled."""
        patience = Backoff(self._store)
        task_status.started()
        try:
            while True:
                try:
                    await self._follow()
                except StoreDown as down:
                    await patience.wait(down)
                except (FleetDown, ResponseError) as trouble:  # The host goes on, whatever it is.
                    await self._wait(" ".join(str(trouble).split())[:REASON])
        finally:
            with anyio.CancelScope(shield=True):
                await self._redis.aclose()
                await self._fleet.close()

    async def _follow(self) -> None:
        """Copy what comes after the end of the copy, until that may be another: after a new connection."""
        await check_owner(self._store)
        await self._state.check()
        self._past.forget()
        self._state.held.forget()
        connections = self._connections
        after = {stream: await copy.position() for stream, copy in self._copies.items()}
        for stream, entry in after.items():
            await self._keep_from(stream, entry)
        while True:
            await check_owner(self._store)
            await self._state.write()
            await self._past.write_ended(after[self._store.keys.ledger])
            self._report_up()
            if self._connections != connections:
                return
            await self._trim()
            due = time.monotonic() + self._interval
            while (left := due - time.monotonic()) > 0:
                rows = await self._new(after, left)
                if rows and max(map(len, rows.values())) < BATCH:
                    await anyio.sleep(GATHER)
                    rows = await self._new(after, None)
                if not rows:
                    continue
                await check_owner(self._store)  # A blocking read lasts: the state may be another's by now.
                for stream, entries in rows.items():
                    after[stream] = await self._copies[stream].append(after[stream], entries)
                    await self._keep_from(stream, after[stream])
                due = min(due, time.monotonic() + SETTLE)

    async def _new(self, after: dict[str, str], wait: float | None) -> dict[str, list[Row]]:
        """Return the next entries of each stream; wait up to so many seconds for one. Raises StoreDown."""
        block = None if wait is None else max(1, round(wait * 1000))
        positions: Any = after
        try:
            found: Any = await self._redis.xread(positions, count=BATCH, block=block)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        return {stream.decode(): entries for stream, entries in found or ()}

    async def _keep_from(self, stream: str, entry: str) -> None:
        """Set the position of the consumer group, so that the host keeps what comes after it."""
        try:
            await self._store.ask(self._store.redis.xgroup_setid(stream, GROUP_FLEET, entry))
        except ResponseError as error:  # There is no such group, or no stream yet.
            if not any(word in str(error) for word in ("NOGROUP", "No such", "key to exist")):
                raise
            await self._store.ask(self._store.redis.xgroup_create(stream, GROUP_FLEET, entry, mkstream=True))

    async def _trim(self) -> None:
        """Remove what the host has removed from its streams, and copy the hours that are over."""
        if time.monotonic() - self._trimmed < TRIM_EVERY:
            return
        for stream, copy in self._copies.items():
            facts: Any = await self._store.ask(self._store.redis.xinfo_stream(stream))
            if first := facts["first-entry"]:
                await copy.trim(first[0].decode())
        await self._past.write_hours()
        self._trimmed = time.monotonic()

    async def _wait(self, reason: str) -> None:
        """Log the reason and wait, each time longer; hosts do not all come back at the same time."""
        now = time.monotonic()
        if self._said is None or self._said[0] != reason or now - self._said[1] >= SAY_AGAIN:
            structlog.get_logger().warning("fleet_away", reason=reason)
            self._said = reason, now
        await anyio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - not cryptography
        self._pause = min(self._pause * 2, PAUSE_LAST)

    def _count_connection(self) -> None:
        self._connections += 1

    def _report_up(self) -> None:
        self._pause = PAUSE_FIRST
        if self._said:
            structlog.get_logger().info("fleet_back")
            self._said = None
