"""Copies one stream entry by entry, with the same ids, and as long as the host keeps them.

The position is the last entry that the copy has. It is read from there for each batch, so that a copy which
has lost its end is filled again, and one that somebody else has filled is not filled twice.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError, WatchError

from canhazgpu.events.redis_client.fleet_copy import MISSING, RESTARTED
from canhazgpu.events.redis_client.stream_ids import count_missing, place_of
from canhazgpu.workers.fleet.fleet_redis import fleet_errors

NOTHING = "0-0"
TRIM_STEP = 5_000  # Entries removed per command, so that others wait for a few milliseconds only.
TRIM_STEPS = 200

Row = tuple[bytes, dict[bytes, bytes]]


class StreamCopy:
    """The copy of the stream `name`. Raises FleetDown."""

    def __init__(self, fleet: Redis, name: str, stream: str, facts: str) -> None:
        """Copy to the key `stream`, and count what is missing in the hash `facts`."""
        self._fleet = fleet
        self.name, self.stream, self._facts = name, stream, facts

    async def position(self) -> str:
        """Return the id of the last entry of the copy."""
        with fleet_errors():
            return await _last(self._fleet, self.stream)

    async def append(self, after: str, rows: Sequence[Row]) -> str:
        """Append the entries that follow `after`; return the last entry of the copy.

        If the copy does not end with `after`, nothing is appended.
        """
        with fleet_errors():
            batch: Any
            async with self._fleet.pipeline(transaction=True) as batch:
                await batch.watch(self.stream)
                last = await _last(batch, self.stream)
                if last != after:
                    return last
                batch.multi()
                self._count_missing(batch, after, rows[0][0].decode())
                for key, fields in rows:
                    batch.xadd(self.stream, fields, id=key)
                try:
                    await batch.execute()
                except WatchError:  # Another worker was faster.
                    return await _last(self._fleet, self.stream)
        return rows[-1][0].decode()

    def _count_missing(self, batch: Any, after: str, first: str) -> None:
        missing = 0 if after == NOTHING else count_missing(after, first)
        if missing == 0:
            return
        structlog.get_logger().error(
            "fleet_entries_missing", stream=self.name, after=after, next=first, missing=missing
        )
        if missing is None:
            batch.hincrby(self._facts, RESTARTED + self.name, 1)
        else:
            batch.hincrby(self._facts, MISSING + self.name, missing)

    async def trim(self, first: str) -> None:
        """Remove the entries before `first`, which is where the host's stream begins."""
        if place_of(first)[1] <= 1:  # The host has removed nothing, or lost everything and begun again.
            return
        with fleet_errors():
            for _ in range(TRIM_STEPS):
                if not await self._fleet.xtrim(self.stream, minid=first, approximate=True, limit=TRIM_STEP):
                    break
            await self._fleet.xtrim(self.stream, minid=first, approximate=False)


async def _last(client: Any, stream: str) -> str:
    try:
        facts = await client.xinfo_stream(stream)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return NOTHING
    return str(facts["last-generated-id"].decode())
