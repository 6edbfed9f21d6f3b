"""A month of GPU-hours: reports say to the second what a replay of the streams says."""

import os
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest
from month.clock import TimedStore
from month.hours_host import HoursHost
from month.hours_oracle import Replay, Sum

from canhazgpu.events.timestamps import ms_of
from canhazgpu.service.report.report import BY, Question, report
from canhazgpu.service.report.responses import GpuHours, ReportResponse

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(3600)]
SEED = int(os.environ.get("MONTH_SEED", "14"))
DAYS = int(os.environ.get("MONTH_DAYS", "30"))
BEGIN = 1_790_553_600_000  # Monday 2026-09-28, 00:00 UTC; the clocks of Berlin are set back in that month.
RESERVED = ("active", "idle", "unused", "unseen")
PARTS = (*RESERVED, "unreserved", "free", "out_of_service", "unknown")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def month(redis_url: str) -> AsyncIterator[HoursHost]:
    """A host that has lived through the month."""
    store = TimedStore(redis_url, f"hours-{uuid.uuid4().hex[:8]}")
    host = HoursHost(store, SEED, BEGIN)
    await host.live(DAYS)
    yield host
    await store.close()


def parts(row: GpuHours) -> dict[str, float]:
    """Return the seconds of a row that are not zero, by category."""
    found = {name: getattr(row, f"{name}_s") for name in (*PARTS, "trespass")}
    return {name: round(seconds, 1) for name, seconds in found.items() if seconds}


def shown(sums: Counter[str]) -> dict[str, float]:
    """Return what the oracle counted, likewise."""
    return {name: round(seconds, 1) for name, seconds in sums.items() if seconds}


async def test_a_report_says_what_a_replay_says(month: HoursHost) -> None:
    """For random periods every row is the brute-force count, before and after hours are added up."""
    replay, rng = Replay(month), random.Random(SEED)
    await replay.read()
    whole = await ask(month, 0, month.second)
    assert parts(whole.total).keys() == {*PARTS, "trespass"}
    assert whole.total.waiting_s > 0
    for added in (False, True):
        if added:
            await month.summing.update()
        for _ in range(8):
            begin, end = sorted(rng.sample(range(month.second), 2))
            if rng.random() < 0.2:
                end = month.second
            by, zone = rng.choice(BY), rng.choice((UTC, BERLIN))
            begin = max(begin, end - 3 * 86400) if by == "hour" else begin
            compare(replay, await ask(month, begin, end, by, zone), begin, end, zone)


async def ask(month: HoursHost, begin: int, end: int, by: str = "host", zone: tzinfo = UTC) -> ReportResponse:
    """Return the report of a period in seconds."""
    question = Question(
        host="h",
        since_ms=BEGIN + begin * 1000,
        until_ms=BEGIN + end * 1000,
        by=by,
        zone=zone,
        stale_ms=month.rules.stale_ms,
    )
    return await report(month.store, question)


def compare(replay: Replay, found: ReportResponse, begin: int, end: int, zone: tzinfo) -> None:
    """Compare a report with the count."""
    counted = replay.count(begin, end)
    assert parts(found.total) == shown(by_category(counted))
    assert found.total.waiting_s == sum(replay.waiting(begin, end).values())
    assert sum(getattr(found.total, f"{name}_s") for name in PARTS) == 4 * (end - begin)
    reserved = sum(getattr(found.total, f"{name}_s") for name in RESERVED)
    assert found.total.reserved_s == pytest.approx(reserved)
    if found.by == "user":
        compare_users(replay, found, begin, end)
    elif found.by == "gpu":
        assert {row.key for row in found.rows} == counted.keys()
        for row in found.rows:
            assert parts(row) == shown(by_category({row.key: counted[row.key]}))
    elif found.by in ("day", "hour"):
        starts = [(ms_of(row.key) - BEGIN) // 1000 for row in found.rows]
        assert starts[0] == begin
        for start, stop, row in zip(starts, [*starts[1:], end], found.rows, strict=True):
            assert parts(row) == shown(by_category(replay.count(start, stop))), row.key
            assert row.waiting_s == sum(replay.waiting(start, stop).values())
        local = [datetime.fromisoformat(row.key).astimezone(zone) for row in found.rows[1:]]
        assert all(one.minute == 0 and (one.hour == 0 or found.by == "hour") for one in local)


def compare_users(replay: Replay, found: ReportResponse, begin: int, end: int) -> None:
    """Compare the rows of users."""
    users: dict[str, Counter[str]] = defaultdict(Counter)
    for sums in replay.count(begin, end).values():
        for (user, category), seconds in sums.items():
            users[user][category] += seconds
    waited = +replay.waiting(begin, end)
    wanted = {user: shown(sums) for user, sums in users.items() if user}
    wanted |= {str(uid): {} for uid in waited if str(uid) not in wanted}
    rows = {str(row.uid): parts(row) for row in found.rows}
    assert rows.keys() == wanted.keys()
    for user, row in rows.items():  # A time of several users is divided to the millisecond.
        assert row == pytest.approx(wanted[user], abs=0.5), user
    assert {row.uid: row.waiting_s for row in found.rows if row.waiting_s} == waited


def by_category(counted: dict[str, Sum]) -> Counter[str]:
    """Return what was counted of these cards, by category."""
    total = Counter[str]()
    for sums in counted.values():
        for (_, category), seconds in sums.items():
            total[category] += seconds
    return total
