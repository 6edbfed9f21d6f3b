"""Passes events to the handler of a consumer, repeats attempts that failed, and gives up in the end."""

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio import to_thread

from canhazgpu.events.consumer.dead_letters import DeadLetter, GivenUp, append, raw_text
from canhazgpu.events.consumer.stream_event import StreamEvent, event_of
from canhazgpu.events.envelope import Undecodable, matches
from canhazgpu.events.redis_client.cancellation import check_cancelled
from canhazgpu.events.redis_client.group_member import GroupMember, Row
from canhazgpu.events.redis_client.store import StoreDown
from canhazgpu.events.timestamps import rfc3339

LOG = logging.getLogger("canhazgpu.events")
PAUSE_FIRST, PAUSE_LAST = 1.0, 60.0  # Seconds between two attempts to handle an event.

Handler = Callable[[StreamEvent], Any]


class TryAgain(Exception):
    """Raised by a handler that cannot work now, for instance because another system is away.

    The event is tried again until it is handled. These attempts do not count.
    """


class Handling:
    """When `handle` returns, the event was handled, is not of the `types`, or is in the dead letters."""

    def __init__(
        self, member: GroupMember, types: Sequence[str], attempts: int, dead_letters: Path | None
    ) -> None:
        """Store the parameters, which are those of the consumer."""
        self._member, self._types = member, types
        self._attempts, self._dead_letters = attempts, dead_letters
        self._handler: Callable[[StreamEvent], Awaitable[Any]]
        self._before_pause: Callable[[], Awaitable[None]]
        self.is_busy = False  # Whether the handler is at work.

    def begin(self, handler: Handler, before_pause: Callable[[], Awaitable[None]]) -> None:
        """Use this handler; call `before_pause` before an event is tried again."""
        self._handler = handler if _is_async(handler) else _in_thread(handler)
        self._before_pause = before_pause

    async def handle(self, row: Row, attempt: int) -> None:
        """Handle an entry. Raises GivenUp if that failed and there are no dead letters, and OSError."""
        try:
            event = event_of(row[0].decode(), row[1], attempt)
        except Undecodable as error:
            await self._give_up(row[0].decode(), str(error), attempt, row[1])
            return
        if matches(event.type, self._types):
            await self._try(event)

    async def tell(self, gaps: Iterable[StreamEvent]) -> None:
        """Pass on where entries are missing, whatever the types. Raises the same."""
        for gap in gaps:
            LOG.warning("entries of %s are missing: %s", self._member.stream, gap.data)
            await self._try(gap)

    async def _try(self, event: StreamEvent) -> None:
        pause = PAUSE_FIRST
        while event.attempt <= self._attempts:
            self.is_busy = True
            try:
                await self._handler(event)
            except TryAgain as error:
                reason, trace = str(error), None
            except Exception as error:  # noqa: BLE001 - whatever it is, the event is tried again
                reason = f"{type(error).__name__}: {error}"
                if event.attempt == self._attempts:
                    await self._give_up(event.stream_id, reason, event.attempt, event, error)
                    return
                trace = error
                event = msgspec.structs.replace(event, attempt=event.attempt + 1)
            else:
                return
            finally:
                self.is_busy = False
            with suppress(StoreDown):  # It is noticed later, and does not interrupt the event.
                await self._before_pause()
            check_cancelled()  # Also if it was stopped: then it is not tried again.
            LOG.warning("event %s: %s; trying again in %g s", event.id, reason, pause, exc_info=trace)
            await anyio.sleep(pause)
            pause = min(pause * 2, PAUSE_LAST)
        reason = f"it was attempted {self._attempts} times, and the consumer ended each time"
        await self._give_up(event.stream_id, reason, self._attempts, event)

    async def _give_up(
        self,
        entry: str,
        reason: str,
        attempts: int,
        content: StreamEvent | dict[bytes, bytes],
        cause: Exception | None = None,
    ) -> None:
        if self._dead_letters is None:
            message = f"the entry {entry} of {self._member.stream} was given up: {reason}"
            raise GivenUp(message) from cause
        LOG.error("the entry %s of %s becomes a dead letter: %s", entry, self._member.stream, reason)
        letter = DeadLetter(
            time=rfc3339(round(time.time() * 1000)),
            stream=self._member.stream,
            group=self._member.group,
            stream_id=entry,
            reason=reason,
            attempts=attempts,
            event=content if isinstance(content, StreamEvent) else None,
            raw={} if isinstance(content, StreamEvent) else raw_text(content),
        )
        await to_thread.run_sync(append, self._dead_letters, letter)


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _in_thread(handler: Handler) -> Callable[[StreamEvent], Awaitable[Any]]:
    async def call(event: StreamEvent) -> None:
        await to_thread.run_sync(handler, event)

    return call
