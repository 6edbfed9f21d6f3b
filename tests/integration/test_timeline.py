"""The timeline of one violation, from streams on a real Redis: complete, in order, bounded."""

import re
from typing import Any

import pytest
from support.event_history import DAY, HOUR, MINUTE, NOW, ROOT, SECOND, EventHistory, timeline_of, violation

from canhazgpu.events.notices import CREATED, Incident
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import OPENED
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.routes.event_routes.event_filter import EventFilter
from canhazgpu.service.routes.event_routes.event_stream import feed
from canhazgpu.service.storage.stream_filter import PAGE
from canhazgpu.service.violations import history, notification_status
from canhazgpu.service.violations.filters import filters
from canhazgpu.service.violations.search import find
from canhazgpu.service.violations.timeline import FIRST, LAST, Timeline

pytestmark = pytest.mark.anyio
ADDRESS = re.compile(r"[\w…]+@example\.com")
ANN = Viewer(admin=False, user="ann", key="uid:1002")


async def test_the_beginning_of_an_id_is_enough_when_it_is_one(store: Store, past: EventHistory) -> None:
    """A complete id wins over longer ones; several or no matches are an error with the ids."""
    for number in (1, 17, 18):
        past.open(violation(NOW - HOUR, number, gpu=number), NOW - HOUR)
    past.open(violation(NOW - 3 * DAY, 5, gpu=5), NOW - HOUR)  # The clock was set back since.
    await past.flush()
    first = f"v{NOW - HOUR}"
    assert (await find(store, f"{first}-1"))[0] == f"{first}-1"
    assert (await find(store, f"{first}-18"))[0] == f"{first}-18"
    for text in ("v1", first, first[:8], f"{first}-"):
        with pytest.raises(Problem) as many:
            await find(store, text)
        assert (many.value.status, many.value.kind) == (400, "ambiguous-id")
        assert f"{first}-17" in str(many.value)
    for text in ("v2", f"{first}-2", f"{first}-19", "v", "", "x1", "v1\n", "v1*", "violation/v1", "\x1b[2J"):
        with pytest.raises(Problem) as none:
            await find(store, text)
        assert (none.value.status, none.value.kind) == (404, "no-such-violation")
        assert str(none.value).isprintable()


async def test_a_time_line_has_everything_in_order(store: Store, past: EventHistory) -> None:
    """A timeline has facts, notices, attempts, signals and silences, with time, sentence and data."""
    began = NOW - 3 * HOUR
    one = violation(began, 7, memory_mb=10)
    another = violation(began, 70, gpu=4)
    past.silence(began - DAY, began - HOUR, "s0", user="bob", ended_ms=began - HOUR)
    past.silence(began - MINUTE, began + 2 * HOUR, "s1", gpu=0, ended_ms=began + MINUTE)
    past.silence(began, NOW + HOUR, "s2", gpu=5)
    past.open(one, began + 2 * SECOND)
    past.open(another, began + 2 * SECOND)
    notice = past.notice(began + 10 * SECOND, one, another, channels=("wall", "email", "log"))
    past.attempt(began + 11 * SECOND, notice, "wall", "delivered", recipient="bob:pts/3")
    past.attempt(
        began + 12 * SECOND,
        notice,
        "email",
        "retry",
        recipient="bob@example.com",
        detail="451 bob@example.com",
    )
    other = past.notice(began + 13 * SECOND, another, channels=("wall",))
    past.attempt(began + 14 * SECOND, other, "wall", "delivered")
    past.silence(began + 20 * MINUTE, NOW + HOUR, "s3", user="bob", by="bob", ack=True, gpus=(0,))
    past.update(violation(began, 7, memory_mb=20), began + HOUR)
    end = past.notice(began + HOUR, one, kind="terminate", channels=("terminate",))
    past.signal(began + HOUR + SECOND, end, one)
    past.signal(began + HOUR + SECOND, end, another)
    past.close(one, began + 2 * HOUR)
    past.notice(
        began + 2 * HOUR, one, audience="address", person=None, to="team@example.com", kind="resolved"
    )
    await past.flush()
    timeline = await timeline_of(store, one.violation)
    assert [(moment.type.removeprefix("canhazgpu."), moment.time) for moment in timeline.moments] == [
        ("silence.added", rfc3339(began - MINUTE)),
        ("violation.opened", rfc3339(began + 2 * SECOND)),
        ("notice.created", rfc3339(began + 10 * SECOND)),
        ("notice.attempted", rfc3339(began + 11 * SECOND)),
        ("notice.attempted", rfc3339(began + 12 * SECOND)),
        ("silence.ended", rfc3339(began + MINUTE)),
        ("silence.added", rfc3339(began + 20 * MINUTE)),
        ("violation.updated", rfc3339(began + HOUR)),
        ("notice.created", rfc3339(began + HOUR)),
        ("process.signalled", rfc3339(began + HOUR + SECOND)),
        ("violation.closed", rfc3339(began + 2 * HOUR)),
        ("notice.created", rfc3339(began + 2 * HOUR)),
    ]
    said = [moment.sentence for moment in timeline.moments]
    assert said[3] == "By wall to bob:pts/3: delivered"
    assert said[4] == "By email to bob@example.com: failed for now, will be retried (451 bob@example.com)"
    assert said[6].startswith("bob acknowledged it until ")
    assert said[11] == "Notice for team@example.com that it was resolved, by wall and log"
    assert timeline.verdict == notification_status.NotificationStatus("reached", rfc3339(began + 11 * SECOND))
    assert (timeline.violation.reason, timeline.violation.memory_mb, timeline.left_out) == ("stopped", 10, 0)
    masked = await timeline_of(store, one.violation, ANN)
    assert "@example.com" in str(masked.moments)
    assert "bob@" not in str(masked.moments)
    assert "team@" not in str(masked.moments)


async def test_of_very_much_the_middle_is_left_out(store: Store, past: EventHistory) -> None:
    """Very many entries need bounded memory: the first and last are shown, and the others counted."""
    one = past.open(violation(NOW - HOUR), NOW - HOUR)
    for number in range(3 * PAGE):
        past.update(violation(NOW - HOUR, memory_mb=number), NOW - HOUR + number)
    await past.flush()
    timeline = await timeline_of(store, one.violation)
    kept = [moment.fact.memory_mb for moment in timeline.moments if moment.fact]
    assert kept == [1024, *range(FIRST - 1), *range(3 * PAGE - LAST, 3 * PAGE)]
    assert timeline.left_out == 3 * PAGE + 1 - FIRST - LAST


async def test_one_that_nothing_can_be_read_of_is_none(store: Store, past: EventHistory) -> None:
    """An entry with the right subject and no other valid field is skipped."""
    past.put([store.keys.violations], NOW, OPENED, f"violation/v{NOW}-1", {"violation": f"v{NOW}-1"})
    await past.flush()
    with pytest.raises(LookupError):
        await timeline_of(store, f"v{NOW}-1")


async def test_while_it_lasts_it_is_as_it_is_now(store: Store, past: EventHistory) -> None:
    """The current memory of an open violation is used; after the end, the closing fact counts."""
    one = past.open(violation(NOW - HOUR), NOW - HOUR)
    past.store_open(violation(NOW - HOUR, memory_mb=77))
    await past.flush()
    assert (await timeline_of(store, one.violation)).violation.memory_mb == 77
    past.close(one, NOW)
    past.store_open(violation(NOW - HOUR, memory_mb=77))
    await past.flush()
    assert (await timeline_of(store, one.violation)).violation.closed == rfc3339(NOW)


async def test_a_notice_that_is_tried_again_by_hand_is_one(store: Store, past: EventHistory) -> None:
    """A replayed dead letter is one notice with all its attempts."""
    one = past.open(violation(NOW - DAY), NOW - DAY)
    notice = past.notice(NOW - DAY + SECOND, one)
    past.attempt(NOW - DAY + 2 * SECOND, notice, "wall", "failed")
    past.put([store.keys.notices], NOW - HOUR, CREATED, f"notice/{notice.notice}", notice)
    past.attempt(NOW - HOUR, notice, "wall", "delivered")
    await past.flush()
    timeline = await timeline_of(store, one.violation)
    assert [moment.type.rpartition(".")[2] for moment in timeline.moments] == [
        "opened",
        "created",
        "attempted",
        "attempted",
    ]
    assert timeline.verdict == notification_status.NotificationStatus("reached", rfc3339(NOW - HOUR))


async def test_a_silence_is_there_when_its_event_is_trimmed(store: Store, past: EventHistory) -> None:
    """A current silence is shown while Redis has it."""
    one = past.open(violation(NOW - HOUR), NOW - HOUR)
    past.silence(NOW - 2 * HOUR, NOW + HOUR, user="bob")
    await past.flush()
    await store.redis.delete(store.keys.events)
    timeline = await timeline_of(store, one.violation)
    assert [moment.type for moment in timeline.moments][:1] == ["canhazgpu.silence.added"]
    assert timeline.verdict.told == "silenced"


async def test_who_follows_events_sees_no_address_of_others(store: Store, past: EventHistory) -> None:
    """A user who follows the events sees no addresses of others."""
    one = violation(NOW)
    incident = Incident(subject="channel/email", reason="550 ops@example.com: no", since=rfc3339(NOW))
    facts: dict[str, Any] = {
        "person": None,
        "audience": "address",
        "to": "team@example.com",
        "incident": incident,
    }
    notice = past.notice(NOW, one, **facts)
    past.put([store.keys.events], NOW, CREATED, f"notice/{notice.notice}", notice)
    await past.flush()

    async def seen(viewer: Viewer) -> str:
        lines = [line async for line in feed(store, "0-0", EventFilter(), viewer, follow=False)]
        return b"".join(lines).decode()

    assert sorted(ADDRESS.findall(await seen(ROOT))) == ["ops@example.com", "team@example.com"]
    assert sorted(ADDRESS.findall(await seen(ANN))) == ["o…@example.com", "t…@example.com"]


async def test_without_redis_everything_says_so() -> None:
    """Without Redis, a list and a timeline report that; they are not made up."""
    store = Store("unix:///nonexistent", "h")
    viewer = Viewer(admin=False, user=None, key=None)
    for asked in (
        find(store, "v1"),
        history.violations(store, filters({}, NOW), NOW),
        Timeline(store, "v1-1", viewer, NOW).read("0-0", None),
    ):
        with pytest.raises(StoreDown):
            await asked
    await store.close()
