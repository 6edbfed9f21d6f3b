"""Adds up the hours that are over, keeps the sums, and removes what is too old.

The sums of an hour do not change, so a report over a year reads one field a day. They are written in one
command together with the hour that comes next: a crash loses and doubles nothing.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskStatus
from redis.exceptions import ResponseError

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.report.carrying import carry
from canhazgpu.service.report.facts import (
    PER_DAY,
    Base,
    Facts,
    Sums,
    collect,
    decode_list,
    facts,
    read_base,
)
from canhazgpu.service.report.timeline import DAY_MS, HOUR_MS, UNKNOWN, classify
from canhazgpu.service.storage.policy import AllocationPolicy

EVERY = 60.0  # Seconds.
MOST_HOURS = 7 * 24  # That are read at once.
DATED = ("log/", "held/", "carried/", "sums/", "waits/")

_encode = msgspec.json.encode


class Summing:
    """Keeps the sums of one host up to date."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store
        self._keep_ms = round(settings.report.keep * 1000)
        self._stale_ms = AllocationPolicy.of(settings).stale_ms
        self._pruned = -1  # The day on which too old fields were removed last.

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Add up once a minute until cancelled."""
        task_status.started()
        while True:
            try:
                await self.update()
            except StoreDown as down:
                self._store.report_down(down)
            except ResponseError as error:  # The key is not a hash, or the ACL forbids it.
                structlog.get_logger().warning("not_added_up", reason=str(error))
            await anyio.sleep(EVERY)

    async def update(self) -> None:
        """Copy what is new in the streams, and add up the hours that are over. Raises StoreDown."""
        await collect(self._store)
        known = await read_base(self._store)
        await self._prune(known.now_ms)
        await carry(self._store, known.now_ms, self._keep_ms)
        hour, usage = known.now_ms // HOUR_MS, self._store.keys.usage
        if known.summed is not None and known.summed > hour:  # The clock was set back.
            await self._store.ask(self._store.redis.hset(usage, "summed", str(hour)))
            return
        seen = await self._store.ask(self._store.redis.hget(self._store.keys.scan, "at_ms"))
        until = min(hour, int(seen or 0) // HOUR_MS)  # A later scan may say what an hour without one was.
        begin = await self._first_hour(known) if known.summed is None else known.summed
        for start in range(begin, until, MOST_HOURS):
            await self._add_up(start, min(until, start + MOST_HOURS))

    async def _add_up(self, begin: int, until: int) -> None:
        days = range(begin // PER_DAY, (until - 1) // PER_DAY + 1)
        known = await read_base(self._store)
        found = await facts(self._store, known, self._stale_ms, log=days)
        for day in days:
            hours = range(max(begin, day * PER_DAY), min(until, (day + 1) * PER_DAY))
            await self._keep(day, hours, known, found)

    async def _keep(self, day: int, hours: range, known: Base, found: Facts) -> None:
        keys, name = self._store.keys, f"sums/{day}"
        before = await self._store.ask(self._store.redis.hget(keys.usage, name))
        sums = await anyio.to_thread.run_sync(added_up, known, found, hours)
        parts = [*_without(decode_list(before or b"", Sums), hours), sums]
        fields: dict[Any, Any] = {name: _encode(parts)[1:-1]}
        fields["names"] = _encode({str(uid): user for uid, user in found.names.items()})
        fields["summed"] = hours.stop
        await self._store.ask(self._store.redis.hset(keys.usage, mapping=fields))

    async def _first_hour(self, known: Base) -> int:
        """Return the first hour of which anything is known, if the service is new to this state."""
        names = await self._store.ask(self._store.redis.hkeys(self._store.keys.usage))
        days = [day for name in names if (day := _day(name.decode())) is not None]
        oldest = (known.now_ms - self._keep_ms) // HOUR_MS
        return max(oldest, min(days, default=known.now_ms // DAY_MS) * PER_DAY)

    async def _prune(self, now_ms: int) -> None:
        """Remove the days that are too old, once a day."""
        today = now_ms // DAY_MS
        if today == self._pruned:
            return
        oldest = (now_ms - self._keep_ms) // DAY_MS
        names = await self._store.ask(self._store.redis.hkeys(self._store.keys.usage))
        old = [name for name in names if (day := _day(name.decode())) is not None and day < oldest]
        for start in range(0, len(old), 1000):
            await self._store.ask(self._store.redis.hdel(self._store.keys.usage, *old[start : start + 1000]))
        self._pruned = today


def added_up(known: Base, found: Facts, hours: range) -> Sums:
    """Return the sums of these hours."""
    marks = [hour * HOUR_MS for hour in (*hours, hours.stop)]
    cards: dict[str, int] = {}
    users: dict[str, int] = {}
    rows = []
    for card in {**found.entries, **found.holds}:
        totals: dict[tuple[int, str, int], int] = defaultdict(int)
        first_ms, _ = known.cards.get(card, (None, 0))
        for one in classify(found.entries.get(card, ()), found.holds.get(card, ()), marks, first_ms):
            if one.category != UNKNOWN or card in found.present:  # Not of a GPU that is not there any more.
                totals[one.ms // HOUR_MS, one.user, one.category] += one.length
        for (hour, user, category), length in totals.items():
            at = cards.setdefault(card, len(cards)), users.setdefault(user, len(users))
            rows.append((hour, *at, category, length))
    return Sums(list(cards), list(users), rows)


def _without(parts: list[Sums], hours: range) -> Iterator[Sums]:
    """Yield earlier sums of a day without those of these hours, which there are if the clock was set back."""
    for part in parts:
        rows = [row for row in part.rows if row[0] < hours.start]
        if rows:
            yield Sums(part.cards, part.users, rows)


def _day(name: str) -> int | None:
    """Return the day that a field is about, or None if it is about none."""
    if not name.startswith(DATED):
        return None
    text = name.split("/", 2)[1]
    number = int(text) if text.isdecimal() else 0
    return number // PER_DAY if name.startswith("log/") else number
