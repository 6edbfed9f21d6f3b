"""Finds where entries are missing in what a consumer group reads: they were removed before they were read."""

from typing import Any

from redis.exceptions import ResponseError

from canhazgpu.events.consumer.stream_event import StreamEvent, gap_event
from canhazgpu.events.redis_client.group_member import NONE, GroupMember
from canhazgpu.events.redis_client.stream_ids import before, count_missing, place_of


class Gaps:
    """Compares each entry with the one that the group received before it. Raises StoreDown.

    A gap that is there when the consumer begins is found before anything is read, so that a crash hides none.
    """

    def __init__(self, member: GroupMember, stream: str) -> None:
        """Know nothing yet."""
        self._member, self._stream = member, stream
        self._redis = member.store.redis
        self._last = NONE  # What the group received last, as far as this member knows.

    async def before_reading(self) -> list[StreamEvent]:
        """Return the gap before the next entry of the group, if there is one."""
        delivered = await self._delivered()
        if delivered == NONE and self._last == NONE:  # A new group has missed nothing.
            return []
        rows: Any = await self._member.store.ask(
            self._redis.xrange(self._member.stream, f"({delivered}", count=1)
        )
        after, self._last = (self._last if delivered == NONE else delivered), delivered
        if not rows:
            return []
        following = rows[0][0].decode()
        self._last = before(following)  # The gap is told only once.
        return self._between(after, following)

    async def in_batch(self, entries: list[str]) -> list[StreamEvent]:
        """Return the gap before these entries, which were just read; other members may have read some."""
        if not entries:
            delivered = await self._delivered()
            if place_of(delivered) > place_of(self._last):  # Else the stream was created again.
                self._last = delivered
            return []
        first, after, self._last = entries[0], self._last, entries[-1]
        if after == NONE or place_of(first)[1] == place_of(after)[1] + 1:
            return []
        between: Any = [(first.encode(), {})]
        if place_of(first) > place_of(after):
            between = await self._member.store.ask(
                self._redis.xrange(self._member.stream, f"({after}", first, count=1)
            )
        return self._between(after, between[0][0].decode()) if between else []

    def _between(self, after: str, entry: str) -> list[StreamEvent]:
        missing = count_missing(after, entry)
        host = self._member.store.keys.host
        return [] if missing == 0 else [gap_event(host, self._stream, missing, after, entry)]

    async def _delivered(self) -> str:
        try:
            groups: Any = await self._member.store.ask(self._redis.xinfo_groups(self._member.stream))
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            groups = []
        for group in groups:
            if group["name"] == self._member.group.encode():
                return str(group["last-delivered-id"].decode())
        return NONE
