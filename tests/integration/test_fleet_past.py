"""The past of all hosts: what is copied of it says the same as the host itself."""

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from month.hours_host import HoursHost
from support.fleet import put, read
from support.fleet_fixtures import server as server  # noqa: PLC0414 - a fixture, as is the next one
from support.fleet_fixtures import url as url  # noqa: PLC0414
from support.redis_lab import Server
from support.report_lab import ALICE, BEGIN, BOB, DAY, HOUR, ask, hours, release, reserve, until
from support.report_lab import host as host  # noqa: PLC0414 - a fixture

from canhazgpu.events.redis_client.fleet_copy import MOST_ENDED, encode_ended, encode_hours
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.fleet.mirror_reader import ENDED, HOURS
from canhazgpu.service.fleet.past import ended_rows, host_report, merged
from canhazgpu.service.fleet.views import host_line
from canhazgpu.service.report.report import Question
from canhazgpu.service.report.responses import FleetReportResponse
from canhazgpu.service.reservations.ended import EndedFilter, ended_reservations
from canhazgpu.workers.fleet.past_copy import PastCopy

pytestmark = pytest.mark.anyio
END = 25 * HOUR
ALL = EndedFilter(since_ms=0)


@asynccontextmanager
async def copying(url: str, host: HoursHost) -> AsyncIterator[PastCopy]:
    """Copy what is over on a host."""
    name = host.store.keys.host
    await put(url, name)
    fleet = Store(url, name)
    past = PastCopy(host.store, fleet)
    await past.write_hours()
    await past.write_ended("1-1")
    yield past
    await fleet.close()


async def copy_past(url: str, host: HoursHost) -> None:
    """Copy what is over on a host."""
    async with copying(url, host):
        pass


async def report_of(url: str, begin: int, end: int, **more: Any) -> FleetReportResponse:
    """Return the report of all hosts."""
    begin_ms, end_ms = BEGIN + begin * 1000, BEGIN + end * 1000
    words = {"zone": UTC, "whole_hours": True, **more}
    asked = Question(host="h", since_ms=begin_ms, until_ms=end_ms, **words)
    return merged([(copy.host, host_report(copy, asked)) for copy in await read(url, HOURS)], asked)


async def lively(host: HoursHost) -> None:
    """Let two users use, reserve and release for a day and two hours, of which the service sees a part."""
    host.uses["GPU-a"] = [BOB]
    await host.scan("GPU-a")
    await until(host, 2 * HOUR)
    host.uses.clear()
    await host.scan("GPU-a")
    await reserve(host)
    host.uses["GPU-a"] = [ALICE]
    await host.scan("GPU-a")
    await until(host, 4 * HOUR)
    await host.go(18 * HOUR)
    await until(host, 23 * HOUR)
    await release(host)
    host.uses.clear()
    await host.scan("GPU-a")
    await reserve(host, BOB)
    await until(host, 25 * HOUR)
    await release(host, BOB)
    await until(host, 26 * HOUR)


async def test_the_report_of_all_hosts_is_that_of_the_host(url: str, host: HoursHost) -> None:
    """With one host, the hours, their rows and the week are the same as on the host itself."""
    await lively(host)
    await copy_past(url, host)
    for by, count in (("user", 2), ("day", 2), ("hour", 24)):
        here, there = await ask(host, HOUR, END, by), await report_of(url, HOUR, END, by=by)
        assert there.total == here.total
        assert {row.key: hours(row) for row in there.rows} == {row.key: hours(row) for row in here.rows}
        assert there.week == here.week
        assert len(there.rows) == count
        mine = await report_of(url, HOUR, END, by=by, user=f"u{ALICE}")
        assert mine.total == (await ask(host, HOUR, END, by, user=f"u{ALICE}", uid=ALICE)).total
        assert mine.total.reserved_s == 21 * HOUR


async def test_hosts_are_added_up(url: str, host: HoursHost, server: Server) -> None:
    """Users have the hours of all hosts; a host without hours, or with nonsense, is named."""
    await lively(host)
    await copy_past(url, host)
    name = host.store.keys.host
    for other in ("another", "empty", "nonsense", "bomb"):
        await put(url, other)
    with server.client() as admin:
        admin.copy(Keys(name).fleet_hours, Keys("another").fleet_hours)
        admin.set(Keys("nonsense").fleet_hours, b"nonsense")
        admin.set(Keys("bomb").fleet_hours, zlib.compress(bytes(2**28)))
    one, found = await ask(host, HOUR, END), await report_of(url, HOUR, END)
    assert (found.hosts, found.left_out) == (2, ["bomb", "empty", "nonsense"])
    double = {row.key: {what: 2 * much for what, much in hours(row).items()} for row in one.rows}
    assert {row.key: hours(row) for row in found.rows} == double
    assert found.week == one.week
    by_host = await report_of(url, HOUR, END, by="host")
    assert [row.key for row in by_host.rows] == ["another", name]


async def test_days_of_a_zone_with_half_hours_lose_nothing(url: str, host: HoursHost) -> None:
    """Where midnight is in the middle of an hour, that hour belongs to the next day."""
    await lively(host)
    await copy_past(url, host)
    found = await report_of(url, 0, END, by="day", zone=ZoneInfo("Asia/Kolkata"))
    assert [row.key[11:16] for row in found.rows] == ["00:00", "18:00"]
    assert found.total == (await report_of(url, 0, END)).total


async def test_a_host_with_too_many_users_is_left_out(url: str, server: Server) -> None:
    """Users that cannot be are not added up."""
    await put(url, "bad")
    users = [f"user:{number}" for number in range(2001)]
    rows = [(BEGIN // 3_600_000, 0, number, 0, 1) for number in range(2001)]
    day = BEGIN // 86_400_000
    fields = {"summed": b"%d" % (BEGIN // 3_600_000 + 24)}
    fields[f"sums/{day}"] = msgspec.json.encode([["GPU-a"], users, rows])
    with server.client() as admin:
        admin.set(Keys("bad").fleet_hours, encode_hours(fields))
    assert (await report_of(url, 0, DAY)).left_out == ["bad"]


async def test_ended_reservations_are_those_of_the_host(url: str, host: HoursHost) -> None:
    """What has ended is listed as on the host, also by user, period and number."""
    await lively(host)
    await copy_past(url, host)
    (copy,) = await read(url, ENDED)
    here = await ended_reservations(host.store, ALL, 10)
    assert [one.user for one in here] == [f"u{ALICE}", f"u{BOB}"]
    assert ended_rows(copy, ALL, 10) == here
    assert ended_rows(copy, ALL, 1) == here[1:]
    assert ended_rows(copy, EndedFilter(since_ms=0, user=f"u{ALICE}"), 10) == here[:1]
    assert ended_rows(copy, EndedFilter(since_ms=BEGIN + 24 * HOUR * 1000), 10) == here[1:]
    assert ended_rows(copy, EndedFilter(since_ms=0, until_ms=BEGIN + 24 * HOUR * 1000), 10) == here[:1]


@pytest.mark.parametrize(
    "value",
    [b"nonsense", encode_ended([("soon", b"{}")]), encode_ended([("", b"")] * (MOST_ENDED + 1))],
)
async def test_nonsense_has_no_rows(url: str, value: bytes, server: Server) -> None:
    """If what has ended on a host cannot be read, its line says so."""
    await put(url, "bad")
    with server.client() as admin:
        admin.set(Keys("bad").fleet_ended, value)
    (copy,) = await read(url, ENDED)
    line = msgspec.json.decode(host_line(copy, "ended", lambda one: ended_rows(one, ALL, 10)))
    assert (line["host"], line["ended"]) == ("bad", [])
    assert line["away"].startswith("the copy of bad cannot be read: ")


async def test_nothing_is_copied_twice(url: str, host: HoursHost, server: Server) -> None:
    """Without a new hour, or a new end, nothing is written, until the connection is a new one."""
    await lively(host)
    keys = host.store.keys
    async with copying(url, host) as past:
        with server.client() as admin:
            admin.delete(keys.fleet_hours, keys.fleet_ended)
            await past.write_hours()
            await past.write_ended("1-1")
            assert admin.exists(keys.fleet_hours, keys.fleet_ended) == 0
            past.forget()
            await past.write_hours()
            await past.write_ended("1-1")
            assert admin.exists(keys.fleet_hours, keys.fleet_ended) == 2


@pytest.mark.parametrize("length", [-1, HOUR * 1000 + 1, 10**311])
async def test_hours_that_cannot_be_are_left_out(url: str, server: Server, length: int) -> None:
    """No host can have had a GPU for longer than there was time: it would hide all others in the sums."""
    hour = BEGIN // 3_600_000
    for name, much in (("bad", length), ("bad2", length), ("good", HOUR * 1000)):
        await put(url, name)
        sums = b'[["GPU-a"],["user:1"],[[%d,0,0,0,%d]]]' % (hour, much)
        fields = {"summed": b"%d" % (hour + 24), f"sums/{hour // 24}": sums}
        with server.client() as admin:
            admin.set(Keys(name).fleet_hours, encode_hours(fields))
    found = await report_of(url, 0, DAY)
    assert (found.left_out, found.total.reserved_s) == (["bad", "bad2"], HOUR)
