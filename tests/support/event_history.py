"""Writes an invented history to the streams: violations, notices, deliveries and silences."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from support.daemon import Daemon

from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import ATTEMPTED, CREATED, Delivery, Notice
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.silences import ADDED, ENDED, Silence
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import CLOSED, OPENED, UPDATED, Signalled, Violation
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.violations.history import open_by_id
from canhazgpu.service.violations.search import find
from canhazgpu.service.violations.timeline import Timeline

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
NOW = 1_795_600_000_000  # 2026-11-25, 09:46 UTC.


def violation(began: int, number: int = 1, **facts: Any) -> Violation:
    """Return a violation of bob's that began at the time `began`."""
    values: dict[str, Any] = {
        "violation": f"v{began}-{number}",
        "kind": "unreserved",
        "gpu": 0,
        "gpu_uuid": "GPU-0",
        "gpu_name": "H100",
        "key": "uid:1001",
        "user": "bob",
        "uid": 1001,
        "person": "bob",
        "evidence": "uid",
        "since": rfc3339(began),
        "memory_mb": 1024,
        "peak_memory_mb": 2048,
        **facts,
    }
    return msgspec.convert(values, Violation)


class EventHistory:
    """Collects events in any order, and appends them to the streams of one host in chronological order."""

    def __init__(self, store: Store) -> None:
        """Append to the streams of `store`."""
        self._redis, self._keys = store.redis.pipeline(transaction=False), store.keys
        self._count = itertools.count(1)
        self._entries: Counter[str] = Counter()
        self._events: list[tuple[int, int, str, dict[str, bytes]]] = []

    async def flush(self) -> None:
        """Append the collected events; later events must not be older than these."""
        for ms, _, stream, event in sorted(self._events, key=lambda one: one[:3]):
            fields: Any = event
            self._entries[stream] += 1
            self._redis.xadd(stream, fields, id=f"{ms}-{self._entries[stream]}")
        self._events.clear()
        await self._redis.execute()

    def put(self, streams: list[str], ms: int, kind: str, subject: str, data: Any) -> None:
        """Add one event for some streams."""
        number = next(self._count)
        event = Event(
            id=f"{ms}-{number}",
            source="//h/canhazgpu",
            type=kind,
            subject=subject,
            time=rfc3339(ms),
            data=msgspec.to_builtins(data),
        )
        self._events += [(ms, number, stream, event.to_fields()) for stream in streams]

    def open(self, one: Violation, ms: int) -> Violation:
        """Open a violation."""
        self.put([self._keys.violations], ms, OPENED, f"violation/{one.violation}", one)
        return self.store_open(one)

    def store_open(self, one: Violation) -> Violation:
        """Store the violation in its present form among the open ones."""
        body = msgspec.to_builtins(one)
        record = {
            "id": one.violation,
            "kind": one.kind,
            "since": one.since,
            "memory_mb": one.memory_mb,
            "peak_mb": one.peak_memory_mb,
            "holder": one.holder,
            "body": msgspec.json.encode(body).decode(),
        }
        self._redis.hset(self._keys.open, f"{one.gpu}/{one.key}", msgspec.json.encode(record))
        return one

    def update(self, one: Violation, ms: int) -> Violation:
        """Update a violation."""
        self.put([self._keys.violations], ms, UPDATED, f"violation/{one.violation}", one)
        return one

    def close(self, one: Violation, ms: int, reason: str = "stopped") -> Violation:
        """Close a violation."""
        lasted = (ms - int(one.violation[1:].partition("-")[0])) // 1000
        ended = msgspec.structs.replace(one, reason=reason, closed=rfc3339(ms), duration_s=lasted)
        self.put([self._keys.violations], ms, CLOSED, f"violation/{one.violation}", ended)
        self._redis.hdel(self._keys.open, f"{one.gpu}/{one.key}")
        return ended

    def notice(self, ms: int, *about: Violation, kind: str = "opened", **facts: Any) -> Notice:
        """Create a notice, by default to the offender."""
        one = about[0]
        values: dict[str, Any] = {
            "notice": f"n{ms}-{next(self._count)}",
            "kind": kind,
            "episode": one.violation,
            "host": "h",
            "user": one.user,
            "uid": one.uid,
            "person": one.person,
            "created": rfc3339(ms),
            "group": one.key,
            "serial": 1,
            "channels": ("wall", "log"),
            "violations": about,
            **facts,
        }
        made = Notice(**values)
        self.put([self._keys.notices], ms, CREATED, f"notice/{made.notice}", made)
        return made

    def attempt(self, ms: int, notice: Notice, channel: str, outcome: str, **facts: Any) -> None:
        """Add an attempt to deliver a notice on a channel."""
        values: dict[str, Any] = {
            "recipient": "bob",
            "attempt": 1,
            "final": outcome != "retry",
            **facts,
        }
        made = Delivery(
            notice=notice.notice,
            kind=notice.kind,
            channel=channel,
            outcome=outcome,
            time=rfc3339(ms),
            episode=notice.episode,
            group=notice.group,
            serial=notice.serial,
            audience=notice.audience,
            **values,
        )
        self.put([self._keys.deliveries], ms, ATTEMPTED, f"notice/{notice.notice}", made)

    def signal(self, ms: int, notice: Notice, one: Violation, **facts: Any) -> None:
        """Add a signal to a process of a violation."""
        values: dict[str, Any] = {"pid": 7, "start": 1, "name": "python3", "signal": "INT", "outcome": "sent"}
        made = Signalled(
            notice=notice.notice,
            violation=one.violation,
            gpu=one.gpu,
            user=one.user,
            uid=one.uid,
            **{**values, **facts},
        )
        streams = [self._keys.violations, self._keys.events]
        self.put(streams, ms, "canhazgpu.process.signalled", f"violation/{one.violation}", made)

    def silence(self, begin: int, end: int, name: str = "s1", **facts: Any) -> Silence:
        """Add a silence. It is live, unless `ended_ms` says when it was ended."""
        values: dict[str, Any] = {"by": "root", "by_uid": 0, "reason": "maintenance", **facts}
        ended = values.pop("ended_ms", None)
        made = Silence(id=name, since=rfc3339(begin), until=rfc3339(end), until_ms=end, **values)
        self.put([self._keys.events], begin, ADDED, f"silence/{name}", made)
        if ended is None:
            self._redis.hset(self._keys.silences, name, msgspec.json.encode(made))
        else:
            over = msgspec.structs.replace(made, ended=rfc3339(ended))
            self.put([self._keys.events], ended, ENDED, f"silence/{name}", over)
        return made


def write(daemon: Daemon, add: Callable[[EventHistory], None]) -> None:
    """Write the events that `add` adds into the Redis of a service."""

    async def writing() -> None:
        store = Store(f"unix://{daemon.folder}/state/redis/redis.sock", "testhost")
        past = EventHistory(store)
        add(past)
        await past.flush()
        await store.close()

    anyio.run(writing)


ROOT = Viewer(admin=True, user="root", key="uid:0")


async def timeline_of(store: Store, name: str, viewer: Viewer = ROOT) -> Timeline:
    """Return the timeline of one violation, as of NOW."""
    found, start = await find(store, name)
    timeline = Timeline(store, found, viewer, NOW)
    await timeline.read(start, (await open_by_id(store)).get(found))
    return timeline


@pytest.fixture
def past(store: Store) -> EventHistory:
    """An event history for the empty streams of a host."""
    return EventHistory(store)
