"""Which entries of the streams are trimmed, on a real Redis with real groups."""

import json
from typing import Any

import msgspec
import pytest
from support.streams import DAY_MS, GROUP, fill, happens, number_of, numbers, read, told

from canhazgpu.config.settings import Settings
from canhazgpu.config.streams import Consumers, Streams
from canhazgpu.events.outbox import send_test
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.storage import retention
from canhazgpu.service.storage.retention import FOREVER_MS, GroupReport, Retention

pytestmark = pytest.mark.anyio
ABOUT = 100  # Entries in one node of a stream: fewer than these may stay beyond what is to be kept.
MANY = 120_000


def keeper(store: Store, abandon_after: float = 30 * 86400.0, memory_mb: int = 512) -> Retention:
    """Return retention with these settings."""
    settings = Settings(
        host=store.keys.host,
        consumers=Consumers(abandon_after=abandon_after),
        streams=Streams(memory_mb=memory_mb),
    )
    return Retention(settings, store)


async def groups(kept: Retention) -> list[GroupReport]:
    """Trim once; return the report on groups."""
    await kept.trim_all()
    assert kept.report
    return list(kept.report.groups)


async def long_ago(store: Store, stream: str, days: int) -> None:
    """Let the position of every group of a stream be unchanged for some days."""
    fields: Any = await store.redis.hgetall(store.keys.consumers)
    for field, text in fields.items():
        if field.startswith(stream.encode() + b"/"):
            record = json.loads(text)
            record["at_ms"] -= days * DAY_MS
            await store.redis.hset(store.keys.consumers, field, json.dumps(record))


async def test_entries_of_a_stream_are_numbered_without_a_gap(store: Store) -> None:
    """Entries of each stream are numbered without gaps, also after the newest was deleted."""
    for _ in range(3):
        await send_test(store, "wall", None, "alice", 1)
    newest: Any = await store.redis.xrevrange(store.keys.notices, count=1)
    await store.redis.xdel(store.keys.notices, newest[0][0])
    await send_test(store, "wall", None, "alice", 1)
    rows: Any = await store.redis.xrange(store.keys.notices)
    assert [number_of(key.decode()) for key, _ in rows] == [1, 2, 4]
    rows = await store.redis.xrange(store.keys.events)
    assert [number_of(key.decode()) for key, _ in rows] == [1, 2, 3, 4]


async def test_an_id_of_another_hand_stops_nothing(store: Store) -> None:
    """After an entry with the highest possible id, events are still appended."""
    await store.redis.xadd(store.keys.events, {"data": "1"}, id=f"{10**13}-{2**64 - 1}")
    for _ in range(2):
        await send_test(store, "wall", None, "alice", 1)
    assert (await numbers(store, store.keys.events))[1] == 2


@pytest.mark.parametrize("stream", ["events", "deliveries"])
async def test_without_readers_the_last_are_kept(
    store: Store, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream without readers keeps its last entries."""
    monkeypatch.setitem(retention.KEPT, stream, (FOREVER_MS, 5_000))
    key = store.keys.streams[stream]
    await fill(store, key, 7_000)
    kept = keeper(store)
    await kept.trim_all()
    first, last = await numbers(store, key)
    assert last == 7_000
    assert 2_000 - ABOUT < first <= 2_001
    assert await store.redis.xlen(key) == last - first + 1


@pytest.mark.parametrize("stream", ["events", "deliveries"])
async def test_a_group_behind_many_entries_loses_none(store: Store, stream: str) -> None:
    """A group that has acknowledged 10 of 120,000 entries gets all others, before they are trimmed."""
    key = store.keys.streams[stream]
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    await fill(store, key, MANY - 1)
    await happens(store, stream)
    assert await read(store, key, 10) == list(range(1, 11))
    kept = keeper(store)
    (group,) = await groups(kept)
    assert (group.stream, group.group, group.behind, group.abandoned) == (stream, GROUP, MANY - 10, None)
    assert await read(store, key, 1) == [11]
    assert (await numbers(store, key))[0] <= 10
    expected = 12
    while batch := await read(store, key, 4_000):
        assert (batch[0], batch[-1]) == (expected, expected + len(batch) - 1)
        expected += len(batch)
        await kept.trim_all()
    assert expected == MANY + 1
    first, _ = await numbers(store, key)
    assert MANY - 100_000 - ABOUT < first <= MANY - 100_000 + 1


async def test_what_was_read_and_not_acknowledged_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest unacknowledged entry of any group holds back all later ones."""
    monkeypatch.setitem(retention.KEPT, "events", (FOREVER_MS, 1_000))
    key = store.keys.events
    for name in (GROUP, "other"):
        await store.redis.xgroup_create(key, name, id="0", mkstream=True)
    await fill(store, key, 5_000)
    await read(store, key, 500)
    await read(store, key, 1, acknowledge=False)
    await read(store, key, 4_000)
    await store.redis.xgroup_setid(key, "other", "$")
    await keeper(store).trim_all()
    first, _ = await numbers(store, key)
    assert 501 - ABOUT < first <= 501
    await store.redis.xack(key, GROUP, (await store.redis.xpending(key, GROUP))["min"])
    await keeper(store).trim_all()
    assert 4_000 - ABOUT < (await numbers(store, key))[0] <= 4_001


async def test_an_abandoned_group_holds_nothing_back(store: Store) -> None:
    """A group that was not read for 30 days is abandoned with one event, and its entries are trimmed."""
    key = store.keys.violations
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    await fill(store, key, 3000, days=500)
    await fill(store, key, 10, 3000)
    kept = keeper(store)
    await kept.trim_all()
    await long_ago(store, "violations", 29)
    (group,) = await groups(kept)
    assert (group.abandoned, group.behind) == (None, 3010)
    assert (await numbers(store, key))[0] == 1
    await long_ago(store, "violations", 1)
    (group,) = await groups(kept)
    assert group.abandoned == "unread"
    first = (await numbers(store, key))[0]
    assert 3001 - ABOUT < first <= 3001
    assert group.missing == first - 1
    await kept.trim_all()
    (event,) = await told(store)
    assert (event["verb"], event["group"], event["behind"]) == ("abandoned", GROUP, 3010)


async def test_a_group_that_is_read_again_is_told_what_it_missed(store: Store) -> None:
    """An abandoned group that is read again holds entries back, and an event has the missing number."""
    key = store.keys.violations
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    await fill(store, key, 3000, days=500)
    await fill(store, key, 10, 3000)
    await read(store, key, 100)
    kept = keeper(store)
    await kept.trim_all()
    await long_ago(store, "violations", 31)
    await store.redis.xgroup_delconsumer(key, GROUP, "reader")
    await kept.trim_all()
    (number,) = await read(store, key, 1)
    (group,) = await groups(kept)
    assert (group.abandoned, group.behind) == (None, 3010 - number)
    assert [(event["verb"], event.get("missing")) for event in await told(store)] == [
        ("abandoned", None),
        ("resumed", number - 101),
    ]


async def test_a_reader_that_comes_and_gets_nowhere_is_not_abandoned(store: Store) -> None:
    """A member that only reads its pending entries counts as a reader."""
    key = store.keys.violations
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    await fill(store, key, 10)
    await read(store, key, 1, acknowledge=False)
    kept = keeper(store)
    await kept.trim_all()
    await long_ago(store, "violations", 31)
    (group,) = await groups(kept)
    assert group.abandoned is None


async def test_a_group_that_has_read_everything_is_never_abandoned(store: Store) -> None:
    """On a stream without new entries, a group is not abandoned."""
    key = store.keys.violations
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    await fill(store, key, 10)
    await read(store, key, 10)
    await store.redis.xgroup_delconsumer(key, GROUP, "reader")
    kept = keeper(store)
    await kept.trim_all()
    await long_ago(store, "violations", 400)
    (group,) = await groups(kept)
    assert (group.abandoned, group.behind) == (None, 0)
    assert await told(store) == []


async def test_a_group_that_is_destroyed_is_forgotten(store: Store) -> None:
    """A deleted group leaves no state, and a new one of its name starts from scratch."""
    key = store.keys.violations
    await store.redis.xgroup_create(key, GROUP, id="0", mkstream=True)
    kept = keeper(store)
    await kept.trim_all()
    assert await store.redis.hlen(store.keys.consumers) == 1
    await store.redis.xgroup_destroy(key, GROUP)
    assert await groups(kept) == []
    assert await store.redis.hlen(store.keys.consumers) == 0


async def test_a_group_of_any_name_can_be_abandoned(store: Store) -> None:
    """A group name that is not text, or contains brackets, is reported in printable form."""
    for name in (b"\xff\x00\n%[(", b'"\\'):
        await store.redis.xgroup_create(store.keys.violations, name, id="0", mkstream=True)
    await fill(store, store.keys.violations, 1)
    kept = keeper(store)
    await kept.trim_all()
    await long_ago(store, "violations", 31)
    found = await groups(kept)
    assert {group.group for group in found} == {"???%[(", '"\\'}
    assert {group.abandoned for group in found} == {"unread"}
    assert {event["group"] for event in await told(store)} == {"???%[(", '"\\'}


async def test_no_host_trims_the_streams_of_another(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several hosts in one Redis have their own streams, groups and memory."""
    monkeypatch.setitem(retention.KEPT, "events", (FOREVER_MS, 1_000))
    others = [Store(redis_url, f"{store.keys.host}-{number}") for number in range(5)]
    for one in (store, *others):
        await fill(one, one.keys.events, 3_000)
    await keeper(store).trim_all()
    assert await store.redis.xlen(store.keys.events) < 1_000 + ABOUT
    for one in others:
        assert await one.redis.xlen(one.keys.events) == 3_000
        assert await one.redis.exists(one.keys.consumers) == 0
        await one.close()


async def test_reports_can_be_written_as_json(store: Store) -> None:
    """/v1/health reports what the last trimming saw."""
    kept = keeper(store)
    await kept.trim_all()
    report = msgspec.to_builtins(kept.report)
    assert [one["entries"] for one in report["streams"]] == [0] * 5
    assert report["limit_bytes"] == 512 * 2**20
