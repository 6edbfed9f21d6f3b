"""The commands of a member of a consumer group. The group is created if needed, and again if it is lost.

Rows are raw; who reads them decides what they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from canhazgpu.events.redis_client.store import Store

Row = tuple[bytes, dict[bytes, bytes]]
FIRST, NONE = "0", "0-0"


class GroupMember:
    """The member `name` of `group` on `stream`, with a connection of its own for reads that block.

    Every method raises StoreDown if Redis does not answer.
    """

    def __init__(  # noqa: PLR0913 - what a member is
        self, store: Store, stream: str, group: str, name: str, *, longest: float, begin: str = FIRST
    ) -> None:
        """Read blocks up to `longest` seconds. A new group begins at the entry `begin`."""
        self.store, self.stream, self.group, self.name = store, stream, group, name
        self.on_lost: Callable[[], None] = lambda: None  # Called if Redis no longer has the group.
        self._begin = begin
        self._redis = store.blocking(longest)
        self._ready = False

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def create(self) -> None:
        """Create the group, unless it was there or was created before."""
        if self._ready:
            return
        made = self._redis.xgroup_create(self.stream, self.group, id=self._begin, mkstream=True)
        try:
            await self.store.ask(made)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._ready = True

    async def read(
        self, after: str, count: int, block: int | None = None, done: Sequence[str] = ()
    ) -> list[Row]:
        """Return the next new entries (`after` is `>`), or this member's pending entries after `after`.

        Wait up to `block` milliseconds for a new entry. The entries `done` are acknowledged first.
        """
        try:
            reply = await self.store.ask(self._read(after, count, block, done))
        except ResponseError as error:
            if not str(error).startswith("UNBLOCKED"):
                await self.create_again(error)
            return []
        return reply[0][1] if reply else []

    async def _read(self, after: str, count: int, block: int | None, done: Sequence[str]) -> Any:
        client: Any = self._redis.pipeline(transaction=False) if done else self._redis
        if done:
            client.xack(self.stream, self.group, *done)
        reply = await client.xreadgroup(self.group, self.name, {self.stream: after}, count=count, block=block)
        if not done:
            return reply
        replies = await client.execute(raise_on_error=False)  # An error that is raised has another text.
        for one in replies:
            if isinstance(one, Exception):
                raise one
        return replies[-1]

    async def claim(self, cursor: Any, idle: float, count: int) -> tuple[Any, list[tuple[bytes | None, Any]]]:
        """Take over entries that have been pending for `idle` seconds.

        Return the position to continue from (`NONE`: there is no more), and the entries.
        """
        found = self._redis.xautoclaim(
            self.stream, self.group, self.name, round(idle * 1000), cursor, count=count
        )
        try:
            reply: Any = await self.store.ask(found)
        except ResponseError as error:
            await self.create_again(error)
            return NONE, []
        return reply[0], reply[1]

    async def acknowledge(self, *entries: str) -> None:
        """Acknowledge these entries."""
        await self.store.ask(self.store.redis.xack(self.stream, self.group, *entries))

    async def create_again(self, error: ResponseError) -> None:
        """Create the group again if Redis has lost it; raise any other error."""
        if not str(error).startswith("NOGROUP"):
            raise error
        self.on_lost()
        self._ready = False
        await self.create()
