"""Violations from streams on a real Redis: which are found, and how much is read for it."""

from typing import Any

import pytest
from support.event_history import DAY, HOUR, MINUTE, NOW, SECOND, EventHistory, timeline_of, violation

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import CLOSED, OPENED, Violation
from canhazgpu.service.api.responses import ViolationResponse
from canhazgpu.service.storage.stream_filter import PAGE
from canhazgpu.service.violations import history, notification_status
from canhazgpu.service.violations.filters import filters

pytestmark = pytest.mark.anyio


async def asked(store: Store, **words: str) -> list[ViolationResponse]:
    """Return what is found."""
    return await history.violations(store, filters(words, NOW), NOW)


async def names(store: Store, **words: str) -> list[str]:
    """Return the ids of what is found, as far as they differ."""
    return [one.violation.rpartition("-")[2] for one in await asked(store, **words)]


class Counted:
    """Counts the round trips of a store, and the most events that came with one."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        """Count from now on."""
        self.trips, self.most = 0, 0
        run, ask = store.run, store.ask

        async def counting_run(script: Script, keys: Any, args: Any) -> Any:
            reply = await run(script, keys, args)
            self.trips += 1
            self.most = max(self.most, reply[1].count(b"\n") + 1)
            return reply

        async def counting_ask(question: Any) -> Any:
            self.trips += 1
            return await ask(question)

        patch.setattr(store, "run", counting_run)
        patch.setattr(store, "ask", counting_ask)


async def test_what_is_asked_for_is_found(store: Store, past: EventHistory) -> None:
    """By time, user, GPU, kind, and whether it lasts or was told, in any combination, oldest first."""
    old = violation(NOW - 9 * DAY, 1, gpu=1)
    past.open(old, NOW - 9 * DAY)
    past.close(old, NOW - 8 * DAY)
    ann = violation(NOW - 3 * DAY, 2, user="ann", uid=1002, key="uid:1002", person="ann", gpu=2)
    past.open(ann, NOW - 3 * DAY)
    past.close(ann, NOW - 2 * DAY)
    trespass = violation(NOW - 2 * HOUR, 3, kind="trespass", holder="ann")
    past.open(trespass, NOW - 2 * HOUR)
    notice = past.notice(NOW - 2 * HOUR + SECOND, trespass)
    past.attempt(NOW - 2 * HOUR + 2 * SECOND, notice, "wall", "nobody")
    past.notice(NOW - 2 * HOUR + 3 * SECOND, trespass, audience="admins", person=None, unreached=True)
    await past.flush()
    assert await names(store) == ["2", "3"]
    assert await names(store, since="30d") == ["1", "2", "3"]
    assert await names(store, since="30d", until="4d") == ["1"]
    assert await names(store, since=rfc3339(NOW - 30 * DAY)[:10], until="1d") == ["1", "2"]
    assert await names(store, user="ann") == ["2"]
    assert await names(store, user="an") == []
    assert await names(store, gpu="0") == ["3"]
    assert await names(store, since="30d", gpu="1", user="bob") == ["1"]
    assert await names(store, kind="trespass") == ["3"]
    assert await names(store, kind="overstaying") == []
    assert await names(store, open="1") == ["3"]
    assert await names(store, open="1", until="1d") == []
    assert await names(store, since="30d", unreached="1") == ["3"]
    assert await names(store, since="30d", unreached="1", user="ann") == []
    rows = await asked(store, since="30d")
    assert [(one.state, one.told, one.reached_at) for one in rows] == [
        ("closed", None, None),
        ("closed", None, None),
        ("open", "unreached", None),
    ]


async def test_what_ended_after_the_span_shows_its_end(
    store: Store, past: EventHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by a time at which it lasted, it is closed all the same; who came later is not there."""
    one = past.open(violation(NOW - 9 * DAY, 1), NOW - 9 * DAY)
    for number in range(2, 2 + PAGE):
        other = violation(NOW - 8 * DAY + number, number, gpu=1)
        past.open(other, NOW - 8 * DAY + number)
        past.close(other, NOW - 8 * DAY + number)
    past.close(one, NOW - DAY)
    await past.flush()
    (row,) = await asked(store, since="10d", until=rfc3339(NOW - 9 * DAY + HOUR))
    assert (row.violation, row.state, row.closed) == (one.violation, "closed", rfc3339(NOW - DAY))
    counted = Counted(store, monkeypatch)
    assert await asked(store, since="10d", until=rfc3339(NOW - 9 * DAY - HOUR)) == []
    assert counted.trips == 2, "it reads on where nothing is open"
    assert counted.most <= PAGE


async def test_when_they_were_reached_is_said(store: Store, past: EventHistory) -> None:
    """By the first delivery to the offender, in a notice of several violations too."""
    first = past.open(violation(NOW - 2 * HOUR, 1), NOW - 2 * HOUR)
    second = past.open(violation(NOW - HOUR, 2, gpu=1), NOW - HOUR)
    notice = past.notice(NOW - HOUR, first, second)
    past.attempt(NOW - HOUR + SECOND, notice, "log", "delivered")
    past.attempt(NOW - HOUR + MINUTE, notice, "wall", "delivered", recipient="bob:pts/1")
    past.attempt(NOW - HOUR + 2 * MINUTE, notice, "wall", "delivered", recipient="bob:pts/2")
    await past.flush()
    rows = await asked(store)
    assert [(one.told, one.reached_at) for one in rows] == [("reached", rfc3339(NOW - HOUR + MINUTE))] * 2


async def test_a_silence_that_is_live_is_said(store: Store, past: EventHistory) -> None:
    """Of what is open and was told to nobody; one whose time is over says nothing."""
    past.open(violation(NOW - HOUR, 1), NOW - HOUR)
    past.open(violation(NOW - HOUR, 2, gpu=1), NOW - HOUR + 1)
    past.silence(NOW - 2 * HOUR, NOW + HOUR, "s1", gpu=0)
    past.silence(NOW - 2 * HOUR + 1, NOW - HOUR, "s2", gpu=1)
    await past.flush()
    assert [one.told for one in await asked(store)] == ["silenced", None]


@pytest.mark.slow
async def test_ten_thousand_are_read_in_pages(
    store: Store, past: EventHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No round trip for each violation or notice, and never more than a page in one."""
    most, began = 10_000, NOW - 6 * DAY
    for number in range(most):
        ms = began + number * 10 * SECOND
        one = violation(ms, number, gpu=number % 8)
        past.put([store.keys.violations], ms, OPENED, f"violation/{one.violation}", one)
        notice = past.notice(ms + 1, one, channels=("wall",))
        past.attempt(ms + 2, notice, "wall", "delivered" if number % 10 else "nobody")
        past.put(
            [store.keys.violations],
            ms + SECOND,
            CLOSED,
            f"violation/{one.violation}",
            {**_builtins(one), "closed": rfc3339(ms + SECOND), "duration_s": 1, "reason": "stopped"},
        )
        if number % PAGE == 0:
            await past.flush()
    await past.flush()
    counted = Counted(store, monkeypatch)
    rows = await asked(store)
    assert len(rows) == most
    assert counted.most <= PAGE
    assert counted.trips <= 4 * most // PAGE + 10
    assert len(await asked(store, unreached="1")) == most // 10
    counted.trips = 0
    timeline = await timeline_of(store, rows[most // 2].violation)
    assert len(timeline.moments) == 4
    assert counted.trips <= 5 * most // PAGE + 20
    monkeypatch.setattr(notification_status, "LATE_MS", HOUR)
    counted.trips = 0
    assert len(await asked(store, since="6d", until=rfc3339(began + HOUR))) == 361
    assert counted.trips <= 15, "it reads on behind what is asked for"


async def test_of_too_many_thenewest_are_there(
    store: Store, past: EventHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: at no time more than twice as many rows as are shown."""
    held: list[int] = []
    newest = history.newest

    def counting(rows: dict[str, Violation], most: int) -> dict[str, Violation]:
        held.append(len(rows))
        return newest(rows, most)

    monkeypatch.setattr(history, "MOST_ROWS", 20)
    monkeypatch.setattr(history, "newest", counting)
    for number in range(3 * PAGE):
        one = violation(NOW - DAY + number, number, gpu=number)
        past.open(one, NOW - DAY + number)
        past.close(one, NOW - DAY + number)
    lasting = past.open(violation(NOW - 2 * DAY, 1), NOW - DAY + 3 * PAGE)
    await past.flush()
    assert await names(store) == [str(number) for number in range(3 * PAGE - 20, 3 * PAGE)]
    assert max(held) <= PAGE + 2 * 20
    assert [one.violation for one in await asked(store, open="1")] == [lasting.violation]


async def test_poison_in_the_streams_is_passed_over(store: Store, past: EventHistory) -> None:
    """What is no event, no JSON, no violation or has no moment hides nothing else, and breaks nothing."""
    keys = store.keys
    one = past.open(violation(NOW - HOUR, 1), NOW - HOUR)
    notice = past.notice(NOW - HOUR, one)
    past.attempt(NOW - HOUR, notice, "wall", "delivered")
    await past.flush()
    entries: Any = await store.redis.xrange(keys.violations)
    good = entries[0][1]
    for stream in (keys.violations, keys.notices, keys.deliveries, keys.events):
        for poison in (
            {b"data": b"\xff"},
            {b"data": b"{}"},
            {b"data": b"5"},
            {b"data": b'{"a": "\\ud800"}'},
            {b"data": b'{"violation": 1}]\n["x"'},
            {b"specversion": b"2.0"},
            {b"time": b"\xff"},
            {b"type": b"canhazgpu.silence.added"},
            {b"data": good[b"data"].replace(b'"since":"2026', b'"since":"soon')},
        ):
            await store.redis.xadd(stream, good | poison)
        await store.redis.xadd(stream, {"nothing": "1"})
    assert [(row.violation, row.told) for row in await asked(store)] == [(one.violation, "reached")]
    assert len((await timeline_of(store, one.violation)).moments) == 3


async def test_when_attempts_are_trimmed_nothing_is_claimed(store: Store, past: EventHistory) -> None:
    """A notice from before the oldest attempt that is kept: whether it was delivered is not known."""
    old, new = violation(NOW - 3 * HOUR, 1), violation(NOW - HOUR, 2)
    for one in (old, new):
        began = int(one.violation[1:].partition("-")[0])
        past.open(one, began)
        notice = past.notice(began, one)
        past.close(one, began + MINUTE)
        past.attempt(began, notice, "wall", "nobody")
    await past.flush()
    assert [one.told for one in await asked(store)] == ["unreached", "unreached"]
    await store.redis.xtrim(store.keys.deliveries, maxlen=1, approximate=False)
    assert [one.told for one in await asked(store)] == [None, "unreached"]


def _builtins(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}
