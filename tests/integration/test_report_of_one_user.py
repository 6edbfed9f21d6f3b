"""Reports about one user: their hours, and nothing of others."""

import pytest
from month.hours_host import HoursHost
from support.report_lab import ALICE, BOB, HOUR, ask, hours, reserve, until
from support.report_lab import host as host  # noqa: PLC0414 - a fixture

pytestmark = pytest.mark.anyio


async def test_hours_of_one_user(host: HoursHost) -> None:
    """They are the user's row of the whole report, before and after hours are added up, with the waits."""
    await reserve(host)
    host.uses["GPU-a"], host.utilizations["GPU-a"] = [ALICE, BOB], 80
    await host.scan("GPU-a")
    await host.go(10)
    await reserve(host, BOB, wait=True)
    for end in (HOUR // 2, 3 * HOUR // 2):
        if end > HOUR:
            await until(host, end)
        else:
            await host.go(end - host.second)
            await host.scan("GPU-a")
        rows = {row.uid: hours(row) for row in (await ask(host, 0, end)).rows}
        assert rows[BOB].keys() == {"trespass", "waiting"}
        for uid in (ALICE, BOB):
            found = await ask(host, 0, end, user=f"u{uid}", uid=uid)
            assert hours(found.total) == rows[uid]
            assert {row.uid: hours(row) for row in found.rows} == {uid: rows[uid]}
            days = await ask(host, 0, end, by="hour", user=f"u{uid}")
            assert sum(row.active_s for row in days.rows) == found.total.active_s
    assert hours((await ask(host, 0, HOUR, user="nobody")).total) == {}
    shares = (await ask(host, 0, HOUR, user=f"u{BOB}", uid=BOB)).week
    assert shares[0][0] == 0.0
