"""The time line of one violation, from streams on a real Redis: found, complete, in order, bounded."""

import pytest
from support.past import DAY, HOUR, MINUTE, NOW, SECOND, Past, timeline_of, violation

from canhazgpu.events.moments import rfc3339
from canhazgpu.events.store import Store
from canhazgpu.events.violations import OPENED
from canhazgpu.service import told
from canhazgpu.service.masks import Viewer
from canhazgpu.service.problems import Problem
from canhazgpu.service.sieve import PAGE
from canhazgpu.service.timeline import FIRST, LAST
from canhazgpu.service.violation_search import find

pytestmark = pytest.mark.anyio
ANN = Viewer(admin=False, user="ann", key="uid:1002")


async def test_the_beginning_of_an_id_is_enough_when_it_is_one(store: Store, past: Past) -> None:
    """A whole id wins over those it begins; more than one is said with their ids, none is said too."""
    for number in (1, 17, 18):
        past.opens(violation(NOW - HOUR, number, gpu=number), NOW - HOUR)
    past.opens(violation(NOW - 3 * DAY, 5, gpu=5), NOW - HOUR)  # The clock was set back since.
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


async def test_a_time_line_has_everything_in_order(store: Store, past: Past) -> None:
    """Facts, notices, attempts, signals and silences, each with its time, its sentence and its data."""
    began = NOW - 3 * HOUR
    one = violation(began, 7, memory_mb=10)
    another = violation(began, 70, gpu=4)
    past.silences(began - DAY, began - HOUR, "s0", user="bob", ended_ms=began - HOUR)
    past.silences(began - MINUTE, began + 2 * HOUR, "s1", gpu=0, ended_ms=began + MINUTE)
    past.silences(began, NOW + HOUR, "s2", gpu=5)
    past.opens(one, began + 2 * SECOND)
    past.opens(another, began + 2 * SECOND)
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
    past.silences(began + 20 * MINUTE, NOW + HOUR, "s3", user="bob", by="bob", ack=True)
    past.updates(violation(began, 7, memory_mb=20), began + HOUR)
    end = past.notice(began + HOUR, one, kind="terminate", channels=("terminate",))
    past.signal(began + HOUR + SECOND, end, one)
    past.signal(began + HOUR + SECOND, end, another)
    past.closes(one, began + 2 * HOUR)
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
    assert said[4] == "By email to bob@example.com: not now; it is tried again (451 bob@example.com)"
    assert said[6].startswith("bob acknowledged it until ")
    assert said[11] == "Notice for team@example.com that it is over, by wall and log"
    assert timeline.verdict == told.Told("reached", rfc3339(began + 11 * SECOND))
    assert (timeline.violation.reason, timeline.violation.memory_mb, timeline.left_out) == ("stopped", 10, 0)
    masked = await timeline_of(store, one.violation, ANN)
    assert "@example.com" in str(masked.moments)
    assert "bob@" not in str(masked.moments)
    assert "team@" not in str(masked.moments)


async def test_of_very_much_the_middle_is_left_out(store: Store, past: Past) -> None:
    """Processes that change at every scan fill no memory: the first and the last are there, and a count."""
    one = past.opens(violation(NOW - HOUR), NOW - HOUR)
    for number in range(3 * PAGE):
        past.updates(violation(NOW - HOUR, memory_mb=number), NOW - HOUR + number)
    await past.flush()
    timeline = await timeline_of(store, one.violation)
    kept = [moment.fact.memory_mb for moment in timeline.moments if moment.fact]
    assert kept == [1024, *range(FIRST - 1), *range(3 * PAGE - LAST, 3 * PAGE)]
    assert timeline.left_out == 3 * PAGE + 1 - FIRST - LAST


async def test_one_that_nothing_can_be_read_of_is_none(store: Store, past: Past) -> None:
    """An entry with the right subject and nothing else."""
    past.put([store.keys.violations], NOW, OPENED, f"violation/v{NOW}-1", {"violation": f"v{NOW}-1"})
    await past.flush()
    with pytest.raises(LookupError):
        await timeline_of(store, f"v{NOW}-1")
