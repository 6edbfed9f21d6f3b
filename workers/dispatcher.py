"""Turns facts about violations into notices: one group a user, its timers kept in Redis.

Each step is computed from the group's state and committed only if that state is still there, with
the notices and the acknowledgement of the facts in the same script: a notice is neither lost nor
made twice, whatever dies, and two dispatchers do no harm.
"""

from collections import defaultdict
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.config.settings import Settings
from canhazgpu.events.keys import GROUP_DISPATCHER
from canhazgpu.events.store import UNREACHABLE, Script, Store, StoreDown, unreachable
from canhazgpu.events.violations import Violation
from canhazgpu.workers.consumer import LONGEST_BLOCK, Consumer, Entry
from canhazgpu.workers.grouping import Fact, Group, Timing, advance

COMMIT = Script("canhazgpu.workers", "commit")


class Dispatcher:
    """The one consumer of the violations stream that decides who hears what, and when."""

    def __init__(self, settings: Settings, store: Store, name: str) -> None:
        """Join the group `dispatcher` as `name`."""
        self._store = store
        self._consumer = Consumer(store, store.keys.violations, GROUP_DISPATCHER, name)
        self._timing = Timing(
            round(settings.notices.group_wait * 1000), round(settings.notices.repeat_interval * 1000)
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; sleeps while there is no fact and nothing is due."""
        await self._consumer.run(self._take, self._do_due, task_status)

    async def _do_due(self) -> float:
        """Advance every group that is due; return the seconds until the next one is."""
        while True:
            try:
                rows: Any = await self._store.redis.zrange(self._store.keys.due, 0, 0, withscores=True)
                clock: Any = await self._store.redis.time()
            except UNREACHABLE as error:
                raise StoreDown(unreachable(error)) from error
            if not rows:
                return LONGEST_BLOCK
            group, due_ms = rows[0]
            left_ms = float(due_ms) - int(clock[0]) * 1000 - int(clock[1]) // 1000
            if left_ms > 0:
                return min(LONGEST_BLOCK, left_ms / 1000)
            await self._advance(group.decode(), [], [])  # It is due later then, or not at all.

    async def _take(self, entries: list[Entry]) -> None:
        by_group: dict[str, list[tuple[str, Fact]]] = defaultdict(list)
        for entry in entries:
            try:
                violation = msgspec.convert(entry.event.data, Violation)
            except msgspec.ValidationError as error:
                fields = {name.encode(): value for name, value in entry.event.to_fields().items()}
                await self._consumer.bury(entry.id, str(error), fields)
            else:
                by_group[violation.key].append((entry.id, (entry.event.type, violation)))
        for group, rows in by_group.items():
            await self._advance(group, [fact for _, fact in rows], [entry for entry, _ in rows])

    async def _advance(self, name: str, facts: list[Fact], entries: list[str]) -> None:
        keys = self._store.keys
        names = [keys.sequence, keys.groups, keys.due, keys.notices, keys.violations, keys.events]
        while True:
            try:
                text: Any = await self._store.redis.hget(keys.groups, name) or b""
                clock: Any = await self._store.redis.time()
            except UNREACHABLE as error:
                raise StoreDown(unreachable(error)) from error
            before = msgspec.json.decode(text, type=Group) if text else None
            now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
            after, drafts = advance(before, facts, now_ms, self._timing)
            due = "" if after is None or after.due_ms is None else after.due_ms
            state = msgspec.json.encode(after) if after else b""
            notices = [msgspec.json.encode(draft) for draft in drafts]
            acks = msgspec.json.encode(entries)
            args = [keys.host, name, text, state, due, GROUP_DISPATCHER, acks, *notices]
            if await self._store.run(COMMIT, names, args):
                for draft in drafts:
                    structlog.get_logger().info("notice_created", kind=draft.kind, user=draft.user)
                return
