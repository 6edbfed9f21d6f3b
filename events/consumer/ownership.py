"""The pending entries that a member owns: it keeps its own, and takes over those of members that are gone.

An entry that is pending for long is taken over by another member. So its owner says from time to time that
it is still at work; Redis does not count that as a delivery.
"""

import logging
from contextlib import suppress
from typing import Any

import anyio
from redis.exceptions import ResponseError

from canhazgpu.events.redis_client.group_member import NONE, GroupMember, Row
from canhazgpu.events.redis_client.store import StoreDown

LOG = logging.getLogger("canhazgpu.events")
TURNS = 3  # In the time after which a member counts as gone. Two may be late.


class Ownership:
    """The pending entries of `member`. Methods raise StoreDown."""

    def __init__(self, member: GroupMember, claim_after: float, batch: int) -> None:
        """Count a member as gone whose entries were pending for `claim_after` seconds."""
        self._member, self._claim_after, self._batch = member, claim_after, batch
        self._redis, self._ask = member.store.redis, member.store.ask

    async def take_over(self) -> list[str]:
        """Become the owner of what gone members left; return the entries that no longer exist."""
        removed: list[str] = []
        idle, after = round(self._claim_after * 1000), NONE
        while found := await self._pending(after, self._batch, idle=idle):
            entries = [one["message_id"].decode() for one in found]
            claimed = await self._claim(entries, idle)
            removed += [one for one in entries if one not in claimed and not await self._exists(one)]
            after = entries[-1]
        return removed

    async def next_own(self, after: str) -> tuple[Row, int] | None:
        """Return the next pending entry of this member, and how many times it was delivered before.

        One at a time, so that Redis counts a delivery only for what is really attempted.
        """
        facts = await self._pending(after, 1, consumername=self._member.name)
        rows = await self._member.read(after, 1) if facts else []
        return (rows[0], int(facts[0]["times_delivered"])) if rows else None

    async def keep(self) -> None:
        """Tell Redis regularly that this member is at work on its entries, until cancelled."""
        while True:
            await anyio.sleep(self._claim_after / TURNS)
            try:
                with suppress(StoreDown):
                    own = await self._pending(NONE, self._batch, consumername=self._member.name)
                    if own:
                        await self._claim([one["message_id"].decode() for one in own], 0)
            except ResponseError as error:
                LOG.warning("an event that takes long may be handled twice: %s", error)
                return

    async def _pending(self, after: str, count: int, **which: Any) -> list[dict[str, Any]]:
        member = self._member
        asked = self._redis.xpending_range(member.stream, member.group, f"({after}", "+", count, **which)
        try:
            found: list[dict[str, Any]] = await self._ask(asked)
        except ResponseError as error:
            await member.create_again(error)
            return []
        return found

    async def _claim(self, entries: list[Any], idle: int) -> list[str]:
        member = self._member
        asked = self._redis.xclaim(member.stream, member.group, member.name, idle, entries, justid=True)
        try:
            return [one.decode() for one in await self._ask(asked)]
        except ResponseError as error:
            await member.create_again(error)
            return []

    async def _exists(self, entry: str) -> bool:
        return bool(await self._ask(self._redis.xrange(self._member.stream, entry, entry)))
