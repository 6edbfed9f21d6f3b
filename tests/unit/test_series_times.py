"""The days of a series: the same time of day, also across a change of the clocks."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from canhazgpu.cli import local_times
from canhazgpu.cli.reservations.bookings import repeated
from canhazgpu.cli.syntax.series_days import MOST
from canhazgpu.events.timestamps import use_zone

FRIDAY = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)  # 9:00 in Berlin.


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Berlin is the zone of this process; afterwards it is what it was."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    local_times._FOUND.clear()  # noqa: SLF001 - it is found once a process
    yield
    use_zone("")
    monkeypatch.undo()
    time.tzset()
    local_times._FOUND.clear()  # noqa: SLF001


@pytest.mark.parametrize(
    ("every", "until", "days"),
    [
        ("day", "2026-11-29", [27, 28, 29]),
        ("Weekday", "2026-12-02", [27, 30, 1, 2]),
        ("week", "2026-12-11", [27, 4, 11]),
        ("mon,wed", "2026-12-07", [30, 2, 7]),
        (" tuesday ", "2026-12-08", [1, 8]),
        ("day", "2026-11-27", [27]),
    ],
)
def test_the_days(every: str, until: str, days: list[int]) -> None:
    """The last day counts; if the first is none of the days, the series begins later."""
    found = repeated(FRIDAY, every, until)
    assert [one.day for one in found] == days
    assert {one.time() for one in found} == {FRIDAY.time()}


def test_the_time_of_day_stays_when_the_clocks_change() -> None:
    """9:00 is 8:00 UTC in winter and 7:00 UTC in summer."""
    saturday = datetime(2027, 3, 27, 8, 0, tzinfo=UTC)
    assert [one.hour for one in repeated(saturday, "day", "2027-03-28")] == [8, 7]
    with pytest.raises(ValueError, match="02:30 does not exist on 2027-03-28"):
        repeated(datetime(2027, 3, 27, 1, 30, tzinfo=UTC), "day", "2027-03-28")


@pytest.mark.parametrize(
    ("every", "until", "why"),
    [
        ("moon", "2026-12-01", "--every: 'moon' is not known: use day, weekday"),
        ("mon,", "2026-12-01", "--every: 'mon,' is not known"),
        ("day", "tomorrow", "--until: 'tomorrow' is not a date such as 2026-12-18"),
        ("day", "+soon", "--until: '\\+soon' is not a date"),
        ("day", "2026-11-26", "--until: 2026-11-26 is before the first day, 2026-11-27"),
        ("day", "2036-11-26", f"--until: a series can have {MOST} days at most"),
        ("day", "9999-12-31", f"--until: a series can have {MOST} days at most"),
    ],
)
def test_what_is_no_series(every: str, until: str, why: str) -> None:
    """The message names the option and says what to write."""
    with pytest.raises(ValueError, match=why):
        repeated(FRIDAY, every, until)
