"""A made-up history: facts, notices, attempts and silences, appended to the streams at chosen moments."""

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
    """A violation of bob's that began at a moment."""
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


class Past:
    """Appends to one host's streams, in the order of the moments, whatever order it is told in."""

    def __init__(self, store: Store) -> None:
        """Append to the streams of `store`."""
        self._redis, self._keys = store.redis.pipeline(transaction=False), store.keys
        self._count = itertools.count(1)
        self._entries: Counter[str] = Counter()
        self._told: list[tuple[int, int, str, dict[str, bytes]]] = []

    async def flush(self) -> None:
        """Write what was said so far; what is said later has to be later."""
        for ms, _, stream, event in sorted(self._told, key=lambda one: one[:3]):
            fields: Any = event
            self._entries[stream] += 1
            self._redis.xadd(stream, fields, id=f"{ms}-{self._entries[stream]}")
        self._told.clear()
        await self._redis.execute()

    def put(self, streams: list[str], ms: int, kind: str, subject: str, data: Any) -> None:
        """Append one event to some streams."""
        number = next(self._count)
        event = Event(
            id=f"{ms}-{number}",
            source="//h/canhazgpu",
            type=kind,
            subject=subject,
            time=rfc3339(ms),
            data=msgspec.to_builtins(data),
        )
        self._told += [(ms, number, stream, event.to_fields()) for stream in streams]

    def opens(self, one: Violation, ms: int) -> Violation:
        """Open a violation, and keep it among the open ones."""
        self.put([self._keys.violations], ms, OPENED, f"violation/{one.violation}", one)
        return self.lasts(one)

    def lasts(self, one: Violation) -> Violation:
        """Keep it among the open ones, as it is now."""
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

    def updates(self, one: Violation, ms: int) -> Violation:
        """Say how it is now."""
        self.put([self._keys.violations], ms, UPDATED, f"violation/{one.violation}", one)
        return one

    def closes(self, one: Violation, ms: int, reason: str = "stopped") -> Violation:
        """Close it."""
        lasted = (ms - int(one.violation[1:].partition("-")[0])) // 1000
        ended = msgspec.structs.replace(one, reason=reason, closed=rfc3339(ms), duration_s=lasted)
        self.put([self._keys.violations], ms, CLOSED, f"violation/{one.violation}", ended)
        self._redis.hdel(self._keys.open, f"{one.gpu}/{one.key}")
        return ended

    def notice(self, ms: int, *about: Violation, kind: str = "opened", **facts: Any) -> Notice:
        """Make a notice to the offender, unless something else is said."""
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
        """Say what became of it on a channel."""
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
        """Tell a process of it to end."""
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

    def silences(self, begin: int, end: int, name: str = "s1", **facts: Any) -> Silence:
        """Silence something; with `ended` it was ended then, else it is live."""
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


def write(daemon: Daemon, tell: Callable[[Past], None]) -> None:
    """Give a host a past: what `tell` says, written into the Redis of its service."""

    async def writing() -> None:
        store = Store(f"unix://{daemon.folder}/state/redis/redis.sock", "testhost")
        past = Past(store)
        tell(past)
        await past.flush()
        await store.close()

    anyio.run(writing)


ROOT = Viewer(admin=True, user="root", key="uid:0")


async def timeline_of(store: Store, name: str, viewer: Viewer = ROOT) -> Timeline:
    """Return the time line of one violation, at NOW."""
    found, start = await find(store, name)
    timeline = Timeline(store, found, viewer, NOW)
    await timeline.read(start, (await open_by_id(store)).get(found))
    return timeline


@pytest.fixture
def past(store: Store) -> Past:
    """Streams of a host that nobody used before, to write a past into."""
    return Past(store)
