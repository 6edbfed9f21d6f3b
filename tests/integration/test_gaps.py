"""A reader that continues from a trimmed position learns how many entries are missing."""

import json
import subprocess
from typing import Any

import anyio
import pytest
from support.daemon import Daemon
from support.eventually import eventually

from canhazgpu.events.envelope import GAP
from canhazgpu.events.outbox import send_test
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.redis_client.stream_ids import count_missing
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.routes.event_routes.event_filter import EventFilter
from canhazgpu.service.routes.event_routes.event_stream import feed, newest

pytestmark = pytest.mark.anyio
ROOT = Viewer(admin=True, user="root", key="uid:0")


async def happen(store: Store, count: int) -> list[str]:
    """Append events; return the ids of all entries."""
    for _ in range(count):
        await send_test(store, "wall", None, "alice", 1)
    rows: Any = await store.redis.xrange(store.keys.events)
    return [key.decode() for key, _ in rows]


async def trim(store: Store, first: str) -> None:
    """Trim all entries before this one."""
    await store.redis.xtrim(store.keys.events, minid=first, approximate=False)


async def lines(store: Store, after: str, *types: str) -> list[dict[str, Any]]:
    """Return what a reader gets."""
    return [
        json.loads(line) async for line in feed(store, after, EventFilter(types=types), ROOT, follow=False)
    ]


def shape(found: list[dict[str, Any]]) -> list[Any]:
    """Return the missing number for a gap, the stream id for an event."""
    return [one["data"]["missing"] if one["type"] == GAP else one["stream_id"] for one in found]


async def test_a_reader_from_a_trimmed_place_is_told_how_many_are_missing(store: Store) -> None:
    """The line about a gap comes first, has both ends, and is sent for any requested types."""
    ids = await happen(store, 10)
    await trim(store, ids[7])
    found = await lines(store, ids[1])
    assert shape(found) == [5, *ids[7:]]
    assert found[0]["data"] == {"missing": 5, "after": ids[1], "before": ids[7]}
    assert shape(await lines(store, ids[1], "gpu.failed")) == [5]
    assert shape(await lines(store, "0-0")) == [7, *ids[7:]]


async def test_who_goes_on_from_the_line_of_a_gap_is_not_told_again(store: Store) -> None:
    """A reader that continues from the line's stream_id gets the next entry, without another gap."""
    ids = await happen(store, 10)
    await trim(store, ids[7])
    gap = (await lines(store, ids[1]))[0]
    assert shape(await lines(store, gap["stream_id"])) == ids[7:]


async def test_where_nothing_is_missing_no_gap_is_told(store: Store) -> None:
    """Without missing entries there is no gap."""
    ids = await happen(store, 10)
    assert shape(await lines(store, "0-0")) == ids
    await trim(store, ids[4])
    for after in (ids[3], ids[4], ids[9], str(int(ids[9].partition("-")[0]) + 1)):
        assert GAP not in [one["type"] for one in await lines(store, after)]
    assert shape(await lines(store, await newest(store, 100))) == ids[4:]
    assert shape(await lines(store, await newest(store, 2))) == ids[8:]


async def test_of_a_moment_it_is_told_that_some_may_be_missing(store: Store) -> None:
    """After a time instead of an entry, the number of missing entries is unknown."""
    ids = await happen(store, 10)
    await trim(store, ids[4])
    assert shape(await lines(store, "1000")) == [None, *ids[4:]]


async def test_a_stream_that_was_begun_anew_is_a_gap(store: Store) -> None:
    """After a wipe, the number of missing entries is unknown."""
    ids = await happen(store, 10)
    await store.redis.delete(store.keys.events)
    await eventually(lambda: _is_after(store, ids[9]))  # A wipe takes a millisecond.
    anew = await happen(store, 2)
    assert shape(await lines(store, ids[9])) == [None, *anew]
    assert count_missing(ids[9], anew[0]) is None


async def _is_after(store: Store, last: str) -> bool:
    seconds, microseconds = await store.redis.time()
    return bool(seconds * 1000 + microseconds // 1000 > int(last.partition("-")[0]))


async def test_a_follower_who_is_overtaken_is_told(store: Store) -> None:
    """A follower that is slower than the trimming gets a gap too."""
    ids = await happen(store, 3)
    follower: Any = feed(store, ids[2], EventFilter(), ROOT, follow=True)
    with anyio.fail_after(60):
        await happen(store, 1)
        assert json.loads(await anext(follower))["type"] != GAP
        pipeline = store.redis.pipeline(transaction=True)
        later = (await happen(store, 0))[-1].partition("-")[0]
        for number in range(6, 9):
            pipeline.xadd(store.keys.events, {"data": "{}"}, id=f"{int(later) + 10**6}-{number}")
        await pipeline.execute()
        line = json.loads(await anext(follower))
    await follower.aclose()
    assert (line["type"], line["data"]["missing"]) == (GAP, 1)


def test_people_and_programs_are_told_by_the_command(host: Daemon) -> None:
    """`events --after` reports a gap on stderr, and with --json as an object."""
    client, key = host.redis(), "canhazgpu:{testhost}:events"
    client.xadd(key, {"data": "{}"}, id=f"{10**13}-5000")
    client.xtrim(key, maxlen=1, approximate=False)

    def events(*words: str) -> "subprocess.CompletedProcess[str]":
        return host.run("events", "--after", "1795600000000-17", *words)

    told = events()
    assert told.returncode == 0
    assert told.stderr.startswith("canhazgpu: 4982 events are missing between 1795600000000-17 and ")
    assert len(told.stderr.splitlines()) == 1
    assert "stream.gap" not in told.stdout
    told = events("--json", "--type", "gpu")
    assert told.stderr == ""
    assert json.loads(told.stdout.splitlines()[0])["data"]["missing"] == 4982
    client.close()
