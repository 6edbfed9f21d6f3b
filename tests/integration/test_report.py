"""Reports, on a test's clock: periods are clipped exactly, and what the service did not see is unknown."""

from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from month.hours_host import HoursHost
from support.report_lab import ALICE, BEGIN, BOB, DAY, HOUR, ask, hours, release, reserve, until
from support.report_lab import host as host  # noqa: PLC0414 - a fixture

from canhazgpu.events.spelling.gpu_numbers import instance_index
from canhazgpu.events.timestamps import ms_of, rfc3339

pytestmark = pytest.mark.anyio


async def test_a_period_is_clipped_to_the_millisecond(host: HoursHost) -> None:
    """A reservation that goes on counts up to now, and only in the period, wherever that begins and ends."""
    await reserve(host)
    await until(host, 5 * HOUR)
    await host.go(100)
    assert hours((await ask(host, 0, 10 * HOUR)).total) == {"unused": (5 * HOUR + 100) / HOUR}
    assert (await ask(host, HOUR + 17, 3 * HOUR + 18)).total.unused_s == 2 * HOUR + 1
    assert (await ask(host, 600, 601)).total.unused_s == 1
    assert hours((await ask(host, 7, 7)).total) == {}


async def test_a_service_that_was_off_saw_nothing(host: HoursHost) -> None:
    """What was free before is unknown while it was off; what was reserved stays so, with its use unseen."""
    await until(host, HOUR)
    await host.go(3 * HOUR)
    await until(host, 5 * HOUR)
    assert hours((await ask(host, 0, 5 * HOUR)).total) == {"free": 2 - 600 / HOUR, "unknown": 3 + 600 / HOUR}
    await reserve(host)
    await until(host, 6 * HOUR)
    await host.go(2 * HOUR)
    found = hours((await ask(host, 5 * HOUR, 8 * HOUR)).total)
    assert found == {"unused": 1.0, "unseen": 2.0}
    await until(host, 9 * HOUR)
    assert found.items() <= hours((await ask(host, 5 * HOUR, 8 * HOUR)).total).items()


async def test_a_notebook_that_keeps_memory_is_held_idle(host: HoursHost) -> None:
    """It is active at first, idle once its utilisation was low for long enough, and then active again."""
    await reserve(host)
    host.uses["GPU-a"], host.utilizations["GPU-a"] = [ALICE], 80
    await host.scan("GPU-a")
    await until(host, HOUR)
    host.utilizations["GPU-a"] = 0
    await until(host, 3 * HOUR)
    host.utilizations["GPU-a"] = 100
    await until(host, 4 * HOUR)
    (row,) = (await ask(host, 0, 4 * HOUR)).rows
    scan = 600 / HOUR  # The scan that sees the low utilisation, and the one that sees that it lasts.
    assert (row.key, row.uid) == ("u1001", ALICE)
    assert hours(row) == {"active": pytest.approx(2 + scan), "idle": pytest.approx(2 - scan)}


async def test_use_of_a_card_that_somebody_else_holds_is_beside_the_sum(host: HoursHost) -> None:
    """The card is reserved and unused, and its user trespasses; without a holder it is unreserved use."""
    host.uses["GPU-a"] = [BOB]
    await host.scan("GPU-a")
    await until(host, HOUR)
    host.uses.clear()
    await host.scan("GPU-a")
    await reserve(host)
    host.uses["GPU-a"] = [BOB]
    await host.scan("GPU-a")
    await until(host, 2 * HOUR)
    found = await ask(host, 0, 2 * HOUR)
    assert {row.key: hours(row) for row in found.rows} == {
        "u1001": {"unused": 1.0},
        "1002": {"unreserved": 1.0, "trespass": 1.0},
    }


async def test_between_a_release_and_the_next_scan_nobody_is_accused(host: HoursHost) -> None:
    """Until a scan has looked, it is unknown whether the former holder still uses the GPU."""
    await reserve(host)
    host.uses["GPU-a"], host.utilizations["GPU-a"] = [ALICE], 80
    await host.scan("GPU-a")
    await until(host, HOUR)
    await release(host)
    await host.go(60)
    host.uses.clear()
    await host.scan("GPU-a")
    await until(host, 2 * HOUR)
    assert hours((await ask(host, 0, 2 * HOUR)).total) == {
        "active": 1.0,
        "unknown": pytest.approx(60 / HOUR),
        "free": pytest.approx(1 - 60 / HOUR),
    }


async def test_waiting_is_the_time_in_the_queue(host: HoursHost) -> None:
    """It is counted for who waits, until they are granted, leave, or still wait."""
    await reserve(host)
    await host.go(10)
    await reserve(host, BOB, wait=True)
    await until(host, HOUR)
    assert {row.key: row.waiting_s for row in (await ask(host, 0, HOUR)).rows if row.waiting_s} == {
        "1002": HOUR - 10
    }
    await release(host)
    await host.scan("GPU-a")
    await until(host, 3 * HOUR)
    found = await ask(host, 0, 3 * HOUR, by="hour")
    assert [row.waiting_s for row in found.rows] == [HOUR - 10, 0, 0]
    assert (await ask(host, 0, 3 * HOUR, name=lambda uid: f"n{uid}")).rows[0].key == "n1002"


async def test_an_hour_of_endless_changes_is_exact(host: HoursHost) -> None:
    """Its entries are added up, and the sums are those of the scans, also around a reservation."""
    await until(host, HOUR)
    expected: Counter[tuple[int | None, str]] = Counter()
    for turn in range(360):
        users = [ALICE] if turn % 2 else [ALICE, BOB]
        host.uses["GPU-a"], host.utilizations["GPU-a"] = users, 50
        await host.scan("GPU-a")
        for half in range(2):
            held = (21, 1) <= (turn, half) < (61, 1)
            if (turn, half) == (61, 1):
                expected[None, "unknown"] += 5  # Released, and no scan has looked.
            elif held:
                expected += Counter({(ALICE, "active"): 5, (BOB, "trespass"): 5 * (BOB in users)})
            else:
                expected += Counter({(user, "unreserved"): 5 / len(users) for user in users})
            await host.go(5)
            if (turn, half) == (21, 0):
                await reserve(host)
            elif (turn, half) == (61, 0):
                await release(host)
    fields: Any = await host.store.redis.hgetall(host.store.keys.usage)
    assert max(len(text) for name, text in fields.items() if name.startswith(b"log/")) < 4200
    await until(host, 2 * HOUR)
    found = await ask(host, HOUR, 2 * HOUR)
    rows = {(row.uid, name): seconds * HOUR for row in found.rows for name, seconds in hours(row).items()}
    rows[None, "unknown"] = found.total.unknown_s
    assert rows == pytest.approx(dict(expected))


async def test_days_begin_at_midnight_where_the_reader_is(host: HoursHost) -> None:
    """Also where midnight is within an hour of UTC, and where a day has 25 hours."""
    await until(host, 2 * DAY)
    found = await ask(host, 0, 2 * DAY, by="day", zone=ZoneInfo("Asia/Kolkata"))
    assert [row.key for row in found.rows] == [
        "2026-09-28T00:00:00.000Z",
        "2026-09-28T18:30:00.000Z",
        "2026-09-29T18:30:00.000Z",
    ]
    assert [row.free_s / HOUR for row in found.rows] == [18.5, 24, 5.5]
    assert found.week[0][5] == 0.0
    assert found.week[4] == [None] * 24


async def test_what_the_ledger_has_from_before_the_log_counts(host: HoursHost) -> None:
    """After an upgrade, reservations of the past are in reports; nothing else of that time is."""
    await reserve(host)
    await until(host, 3 * HOUR)
    await release(host)
    await until(host, 6 * HOUR)
    await host.store.redis.delete(host.store.keys.usage)
    await host.store.redis.hdel(host.store.keys.gpu(0), "logged")
    await until(host, 8 * HOUR)
    found = hours((await ask(host, 0, 8 * HOUR)).total)
    assert found == {"unseen": 3.0, "free": pytest.approx(2 - 600 / HOUR)}


async def test_a_clock_that_is_set_back_counts_no_time_twice(host: HoursHost) -> None:
    """Hours that come again are counted once, and an hour is never more than an hour."""
    await until(host, 5 * HOUR)
    await host.go(-3 * HOUR)
    await host.summing.update()
    host.uses["GPU-a"] = [BOB]
    await host.scan("GPU-a")
    await until(host, 8 * HOUR)
    found = await ask(host, 0, 8 * HOUR, by="hour")
    assert all(sum(hours(row).values()) == pytest.approx(1) for row in found.rows)
    assert hours(found.total) == {"free": pytest.approx(2), "unreserved": pytest.approx(6)}


async def test_a_clock_that_was_ahead_for_a_while_does_no_lasting_harm(host: HoursHost) -> None:
    """After a year ahead and back, the hours from then on are counted as they are seen."""
    await until(host, 2 * HOUR)
    await host.go(365 * DAY)
    await until(host, 365 * DAY + 4 * HOUR)
    await host.go(-365 * DAY)
    await host.summing.update()
    await host.scan("GPU-a")
    await until(host, 7 * HOUR)
    found = await ask(host, 4 * HOUR, 7 * HOUR, by="hour")
    assert [hours(row) for row in found.rows] == [{"free": 1.0}] * 3


async def test_a_removed_card_counts_until_it_was_gone(host: HoursHost) -> None:
    """It is unknown for as long as the host waits for it, and then not there."""
    host.listed = ["GPU-a", "GPU-b"]
    await until(host, 2 * HOUR)
    host.listed = ["GPU-a"]
    host.cards.patience_ms = HOUR * 1000
    await until(host, 6 * HOUR)
    rows = {row.key: row for row in (await ask(host, 0, 6 * HOUR, by="gpu")).rows}
    assert rows["GPU-a"].gpu_id == 0
    assert rows["GPU-b"].gpu_id is None
    assert rows["GPU-b"].free_s == 2 * HOUR  # From the scan that found it to the one that missed it.
    assert rows["GPU-b"].unknown_s <= 2 * HOUR


async def test_what_is_too_old_is_removed(host: HoursHost) -> None:
    """After `report.keep`, nothing of a day is left; adding up again changes nothing."""
    await reserve(host)
    await until(host, HOUR)
    await release(host)
    await until(host, 2 * DAY)
    await host.go(402 * DAY)
    await host.scan("GPU-a")
    await host.summing.update()
    fields: Any = await host.store.redis.hkeys(host.store.keys.usage)
    names = [name.decode() for name in fields]
    assert {name.partition("/")[0] for name in names} >= {"log", "cards", "summed"}
    old = {name for name in names if name.startswith(("held/", "sums/", "carried/", "log/"))}
    days = {int(name.split("/")[1]) // (24 if name.startswith("log/") else 1) for name in old}
    assert min(days) >= BEGIN // 86_400_000 + 2
    before = await host.store.redis.hgetall(host.store.keys.usage)
    await host.summing.update()
    assert await host.store.redis.hgetall(host.store.keys.usage) == before


async def test_an_instance_is_held_from_when_it_exists(host: HoursHost) -> None:
    """A GPU that somebody holds is divided: until then it counts, and from then on its instances do."""
    await reserve(host)
    for minutes, count in ((0, 0), (10, 0), (20, 0), (25, 3), (35, 3), (40, 3)):
        await host.go(minutes * 60 - host.second)
        host.instances = {instance_index(0, number): f"MIG-{number}" for number in range(count)}
        await host.scan("GPU-a")
    expected = {0: 25.0, **dict.fromkeys(host.instances, 15.0)}
    for _ in range(2):
        rows = (await ask(host, 0, HOUR, by="gpu")).rows
        assert {row.gpu_id: row.reserved_s / 60 for row in rows} == expected
        await release(host)
    await until(host, 2 * HOUR)
    rows = (await ask(host, 0, HOUR, by="gpu")).rows
    assert {row.gpu_id: row.reserved_s / 60 for row in rows} == expected


async def test_a_service_that_is_killed_while_it_adds_up_goes_on(host: HoursHost) -> None:
    """Whatever was written before, the sums are those of one that was not."""
    await reserve(host)
    await until(host, 5 * HOUR)
    plain = await ask(host, 0, 5 * HOUR, by="hour")
    await host.store.redis.hset(host.store.keys.usage, "summed", str(BEGIN // 3_600_000 + 2))
    assert await ask(host, 0, 5 * HOUR, by="hour") == plain
    await host.summing.update()
    assert await ask(host, 0, 5 * HOUR, by="hour") == plain
    assert ms_of(plain.since) == BEGIN
    assert plain.until == rfc3339(BEGIN + 5 * HOUR * 1000)
