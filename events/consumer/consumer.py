"""A durable consumer: a member of a consumer group that handles every event at least once, in order.

It handles the events that it had not finished first, then those of members that are gone, then new ones.
"""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import anyio
import anyio.lowlevel

from canhazgpu.events.consumer.gaps import Gaps
from canhazgpu.events.consumer.handling import Handler, Handling
from canhazgpu.events.consumer.ownership import Ownership
from canhazgpu.events.consumer.parameters import check_counts, check_group, check_name, check_source
from canhazgpu.events.consumer.stream_event import StreamEvent, gap_event, key_of
from canhazgpu.events.redis_client.cancellation import cancellable, check_cancelled
from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.group_member import NONE, GroupMember, Row
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.redis_client.stream_ids import before

LOG = logging.getLogger("canhazgpu.events")
BATCH = 256  # Entries read at a time.
BLOCK = 30.0  # Seconds that a read waits for a new entry.
ACKNOWLEDGE_AFTER = 1.0  # Seconds; handled events are acknowledged together, and a crash repeats them.
BACKOFF_FIRST, BACKOFF_LAST = 0.1, 5.0  # Seconds between two attempts to reach Redis.
GOODBYE = 5.0  # Seconds for the last acknowledgement.


class Consumer:
    """The member `name` of `group` on one stream of `host`.

    Invariant: an entry is acknowledged only after its event was handled, is not of the `types`, or is in the
    file of dead letters.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the user
        self,
        where: str | Endpoint,
        *,
        host: str,
        group: str,
        stream: str = "events",
        name: str = "",
        types: Sequence[str] = (),
        begin: Literal["oldest", "newest"] = "oldest",
        attempts: int = 10,
        dead_letters: str | Path | None = None,
        claim_after: float = 120.0,
        batch: int = BATCH,
    ) -> None:
        """Store the parameters; nothing is read yet. Raises ValueError if one of them cannot be right.

        `where` is the URL of the Redis. `name` must be the same at each start, and different for each process
        of the group; if it is empty, it is the name of this machine. `types` selects types such as
        `violation` or `gpu.failed`. A new group begins with the `oldest` entry, or with those after the
        `newest`. After so many `attempts`, an event goes to the file `dead_letters`; without one, `run`
        raises GivenUp. A member whose entries were pending for `claim_after` seconds counts as gone. At most
        `batch` entries are read at a time.
        """
        key = key_of(host, stream)
        check_source(where, host, types)
        check_group(group, stream)
        check_name("name", name or socket.gethostname())
        check_counts(attempts=attempts, batch=batch)
        if not 0 < claim_after < math.inf:
            raise ValueError(f"claim_after: {claim_after} is out of range: use more than 0 seconds")
        if begin not in ("oldest", "newest"):
            raise ValueError(f"begin: {begin!r} is not known: use oldest or newest")
        self._store = Store(where, host)
        self._host, self._stream = host, stream
        first = NONE if begin == "oldest" else "$"
        self._member = GroupMember(
            self._store,
            key,
            group,
            name or socket.gethostname(),
            longest=BLOCK,
            begin=first,
        )
        self._member.on_lost = lambda: LOG.warning("Redis has lost the group %s: it is created again", group)
        self._gaps = Gaps(self._member, stream)
        self._ownership = Ownership(self._member, claim_after, batch)
        self._handling = Handling(self._member, types, attempts, Path(dead_letters) if dead_letters else None)
        self._claim_after, self._batch = claim_after, batch
        self._done: list[str] = []  # Handled and not yet acknowledged.
        self._acknowledged = 0.0  # When there was no such entry, on the monotonic clock.
        self._scope: anyio.CancelScope | None = None
        self._stopping = self._forgets = False

    def stop(self, *, acknowledge: bool = True) -> None:
        """Let `run` return after the event at hand; if that fails, it stays pending. Call it in `run`'s loop.

        Without `acknowledge`, what was handled and is not yet acknowledged stays pending too.
        """
        self._stopping, self._forgets = True, not acknowledge
        if self._scope and not self._handling.is_busy:
            self._scope.cancel()

    async def run(self, handle: Handler) -> None:
        """Pass every event to `handle`, one at a time, until `stop` is called or this is cancelled.

        `handle` is a coroutine function, or a plain function, which runs in a thread. If it raises, the event
        is tried again, after growing pauses. An event of the type `canhazgpu.stream.gap` tells where entries
        are missing. While Redis does not answer, it waits. Raises GivenUp, and what Redis refuses.
        """
        self._handling.begin(handle, self._before_pause)
        keeping = asyncio.ensure_future(self._ownership.keep())
        try:
            with anyio.CancelScope() as self._scope:
                await self._end_if_stopped()
                await self._run()
        finally:
            keeping.cancel()
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(GOODBYE), suppress(StoreDown):
                    await self._acknowledge()
                await asyncio.wait({keeping})
                await self._member.close()
                await self._store.close()

    async def _run(self) -> None:
        backoff = BACKOFF_FIRST
        while True:
            try:
                await self._recover()
                backoff = BACKOFF_FIRST
                await self._read_new()
            except StoreDown as down:
                LOG.warning("%s; trying again", down)
                check_cancelled()
                await anyio.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_LAST)

    async def _before_pause(self) -> None:
        await self._end_if_stopped()
        await self._acknowledge()

    async def _end_if_stopped(self) -> None:
        if self._stopping and self._scope:
            self._scope.cancel()
            await anyio.lowlevel.checkpoint()

    async def _recover(self) -> None:
        """Handle what is pending: what this member did not finish, and what others left.

        Each is acknowledged at once: what ends the process again is then counted for itself only.
        """
        await self._member.create()
        await self._acknowledge()
        await self._tell(await self._gaps.before_reading())
        removed = await self._ownership.take_over()
        after = NONE
        while rows := await self._ownership.next_own(after):
            ((key, fields), deliveries) = rows
            after = key.decode()
            if fields:
                await self._settle((key, fields), deliveries + 1)
                await self._acknowledge()
            else:
                removed.append(after)
                self._done.append(after)
        if removed:
            place = before(removed[0])
            await self._tell([gap_event(self._host, self._stream, len(removed), place, removed[-1])])
        await self._acknowledge()

    async def _read_new(self) -> None:
        """Handle new entries, until it is time to look for entries of members that are gone."""
        claim_at = time.monotonic() + self._claim_after
        while (left := claim_at - time.monotonic()) > 0:
            check_cancelled()
            block = max(1, round(min(left, BLOCK) * 1000))
            done = list(self._done)
            rows = await cancellable(self._member.read(">", self._batch, block, done))
            del self._done[: len(done)]
            self._acknowledged = time.monotonic()
            entries = [key.decode() for key, _ in rows]
            await self._tell(await self._gaps.in_batch(entries))
            for row in rows:
                await self._settle(row, 1)

    async def _tell(self, gaps: list[StreamEvent]) -> None:
        await self._handling.tell(gaps)
        await self._end_if_stopped()

    async def _settle(self, row: Row, attempt: int) -> None:
        """Handle one entry; acknowledge it together with others."""
        check_cancelled()
        await self._handling.handle(row, attempt)
        self._done.append(row[0].decode())
        if self._stopping:
            await self._end_if_stopped()
        if time.monotonic() - self._acknowledged > ACKNOWLEDGE_AFTER:
            await self._acknowledge()

    async def _acknowledge(self) -> None:
        done = [] if self._forgets else list(self._done)
        if done:
            await self._member.acknowledge(*done)
            del self._done[: len(done)]
        self._acknowledged = time.monotonic()
