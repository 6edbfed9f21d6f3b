"""Trims the event streams, but keeps entries that active consumer groups still need.

There are three rules, in order of priority: all streams together use at most `streams.memory_mb`; entries
that an active group has not acknowledged are kept; each stream keeps a number of entries or days. If the
first two conflict, the group that is furthest behind is abandoned, and an event is created.
"""

from collections import Counter

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus
from redis.exceptions import ResponseError

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.timestamps import rfc3339

TRIM = Script("canhazgpu.service.storage", "trim")
EVERY = 60.0  # Seconds.
MOST = 500  # Entries removed per script call, so that scans are delayed by only a few milliseconds.
CALLS = 2000  # Of the script for one stream in one turn; the next turn goes on.
ROUNDS = 16  # Of making room in one turn.
ROOM = 1.05  # How much memory to free, as a multiple of the excess.
LEAST = 1000  # Minimum number of entries of a stream, regardless of memory.
DAYS_MS = 400 * 86_400_000
FOREVER_MS = 10**14
ANY_NUMBER = 10**15
KEPT: dict[str, tuple[int, int]] = {  # For so many ms, and so many entries.
    "events": (FOREVER_MS, 100_000),
    "violations": (DAYS_MS, ANY_NUMBER),
    "ledger": (DAYS_MS, ANY_NUMBER),
    "notices": (DAYS_MS, ANY_NUMBER),
    "deliveries": (FOREVER_MS, 100_000),
}
MIB = 2**20


class _Group(msgspec.Struct, frozen=True):
    behind: int
    at_ms: int
    abandoned: str | None = None
    missing: int | None = None


class _Trimmed(msgspec.Struct, frozen=True):
    entries: int
    trimmed: int
    held: bool
    groups: dict[str, _Group]

    @property
    def holding(self) -> tuple[int, int]:
        """Return the number of entries, and the number of groups that hold entries back."""
        return self.entries, sum(group.abandoned is None for group in self.groups.values())


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer group: its unacknowledged entries, and the time since when its position is unchanged.

    `abandoned`: unread (not read for a long time), memory (to free memory), or null. `missing`: the number of
    removed entries that an abandoned group never read; null if unknown.
    """

    stream: str
    group: str
    behind: int
    read: str
    abandoned: str | None
    missing: int | None


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """A stream: its number of entries, its memory, and how many entries this process has removed from it."""

    stream: str
    entries: int
    bytes: int
    trimmed: int


class StreamsReport(msgspec.Struct, frozen=True, kw_only=True):
    """All streams and their common memory limit in bytes."""

    bytes: int
    limit_bytes: int
    streams: tuple[StreamReport, ...]
    groups: tuple[GroupReport, ...]


class Retention:
    """Trims the streams of one host; `report` is the state at the last turn."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Start without statistics."""
        self._store = store
        self._abandon_ms = round(settings.consumers.abandon_after * 1000)
        self._limit = settings.streams.memory_mb * MIB
        self._seen: dict[str, _Trimmed] = {}
        self._removed: Counter[str] = Counter()  # By stream, since the start of this process.
        self._over = False  # Whether the last turn ended with more than there is room for.
        self.report: StreamsReport | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Trim regularly until cancelled."""
        task_status.started()
        while True:
            try:
                await self.trim_all()
            except StoreDown as down:
                self._store.report_down(down)
            except ResponseError as error:  # The key is not a stream, or the ACL forbids it.
                structlog.get_logger().warning("not_trimmed", reason=str(error))
            await anyio.sleep(EVERY)

    async def trim_all(self) -> None:
        """Trim all streams, then free memory if they use too much. Raises StoreDown."""
        for stream, (keep_ms, keep) in KEPT.items():
            await self._trim(stream, keep_ms, keep)
        sizes = await self._make_room()
        self.report = self._reported(sizes)

    async def _make_room(self) -> dict[str, int]:
        """Return the bytes of each stream once they are within the bound, or once no more can go.

        A group that is being read has until the next turn to catch up, unless twice the bound is in use.
        """
        full = set()  # Streams of which nothing more can go.
        sizes = await self._sizes()
        patient = not self._over and sum(sizes.values()) <= 2 * self._limit
        for _ in range(ROUNDS):
            over = sum(sizes.values()) - self._limit
            left = {name: size for name, size in sizes.items() if name not in full}
            if over <= 0 or not left:
                break
            largest = max(left, key=lambda name: left[name])
            share = max(0.0, 1 - ROOM * over / max(1, sizes[largest]))
            keep = max(LEAST, int(self._seen[largest].entries * share))
            before = self._seen[largest].holding
            await self._trim(largest, KEPT[largest][0], keep)
            if self._seen[largest].held and self._seen[largest].entries > keep:
                await self._call(largest, KEPT[largest][0], keep, pressed="spare" if patient else "any")
            if self._seen[largest].holding == before:
                full.add(largest)
            sizes = await self._sizes()
        self._over = sum(sizes.values()) > self._limit
        return sizes

    async def _sizes(self) -> dict[str, int]:
        return {name: await self._bytes(key) for name, key in self._store.keys.streams.items()}

    async def _trim(self, stream: str, keep_ms: int, keep: int) -> None:
        for _ in range(CALLS):
            if not await self._call(stream, keep_ms, keep):
                return

    async def _call(self, stream: str, keep_ms: int, keep: int, *, pressed: str = "") -> int:
        """Call the script once; return how many entries it dropped."""
        keys = self._store.keys
        names = [keys.sequence, keys.events, keys.streams[stream], keys.consumers]
        args: list[str | bytes | int] = [keys.host, keep_ms, keep, MOST, self._abandon_ms, pressed]
        found = msgspec.json.decode(await self._store.run(TRIM, names, args), type=_Trimmed)
        known = self._seen.get(stream)
        for name, group in found.groups.items():
            past = known.groups.get(name) if known else None
            if group.abandoned and not (past and past.abandoned):
                structlog.get_logger().warning(
                    "consumer_group_abandoned",
                    stream=stream,
                    group=name,
                    behind=group.behind,
                    reason=group.abandoned,
                )
        self._seen[stream] = found
        self._removed[stream] += found.trimmed
        return found.trimmed

    async def _bytes(self, key: str) -> int:
        return await self._store.ask(self._store.redis.memory_usage(key)) or 0

    def _reported(self, sizes: dict[str, int]) -> StreamsReport:
        return StreamsReport(
            bytes=sum(sizes.values()),
            limit_bytes=self._limit,
            streams=tuple(
                StreamReport(
                    stream=name, entries=self._seen[name].entries, bytes=size, trimmed=self._removed[name]
                )
                for name, size in sizes.items()
            ),
            groups=tuple(
                GroupReport(
                    stream=name,
                    group=group,
                    behind=facts.behind,
                    read=rfc3339(facts.at_ms),
                    abandoned=facts.abandoned,
                    missing=facts.missing,
                )
                for name, seen in self._seen.items()
                for group, facts in seen.groups.items()
            ),
        )
