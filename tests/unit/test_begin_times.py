"""When a booking begins, as people write it: in their zone, also across a change of the clocks."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from canhazgpu.cli import local_times
from canhazgpu.cli.local_times import begin_time
from canhazgpu.events.timestamps import use_zone

NOW = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)  # A Friday, 9:30 in Berlin.


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
    ("text", "utc"),
    [
        ("now", "2026-11-27T08:30:00"),
        ("+2h", "2026-11-27T10:30:00"),
        ("now+1hour", "2026-11-27T09:30:00"),
        ("+ 1h30m", "2026-11-27T10:00:00"),
        ("10:00", "2026-11-27T09:00:00"),
        ("9:00", "2026-11-28T08:00:00"),
        ("today 18:00", "2026-11-27T17:00:00"),
        ("Tomorrow  9:00", "2026-11-28T08:00:00"),
        ("friday 10:00", "2026-11-27T09:00:00"),
        ("friday 9:00", "2026-12-04T08:00:00"),
        ("mon 9:00", "2026-11-30T08:00:00"),
        ("2026-12-01T09:00", "2026-12-01T08:00:00"),
        ("2026-12-01 9:00", "2026-12-01T08:00:00"),
        ("2027-07-01 09:00:30", "2027-07-01T07:00:30"),
        ("2026-12-01T09:00Z", "2026-12-01T09:00:00"),
        ("2026-12-01T09:00:00-05:00", "2026-12-01T14:00:00"),
    ],
)
def test_times_that_people_write(text: str, utc: str) -> None:
    """A begin is a moment in UTC."""
    assert begin_time(text, NOW) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("soon", "'soon' is not a time"),
        ("tomorrow", "'tomorrow' is not a time"),
        ("2026-12-01", "has no time of day"),
        ("25:00", "25:00 is not a time of day"),
        ("someday 9:00", "someday is no day"),
        ("2026-02-30 9:00", "2026-02-30 is no day"),
        ("+soon", "'soon' is not a duration"),
        ("\x1b[2J", "is not a time"),
    ],
)
def test_what_is_no_time(text: str, said: str) -> None:
    """Anything else is refused with what can be written instead, and is safe to print."""
    with pytest.raises(ValueError, match=r"time|day|duration") as refused:
        begin_time(text, NOW)
    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_tomorrow_is_a_day_of_the_calendar() -> None:
    """Tomorrow at 9:00 is at 9:00, although that day begins or ends with another offset."""
    before = datetime(2026, 3, 28, 8, 0, tzinfo=UTC)
    assert begin_time("tomorrow 9:00", before) == datetime(2026, 3, 29, 7, 0, tzinfo=UTC)
    before = datetime(2026, 10, 24, 7, 0, tzinfo=UTC)
    assert begin_time("tomorrow 9:00", before) == datetime(2026, 10, 25, 8, 0, tzinfo=UTC)


def test_a_time_that_the_clocks_skip() -> None:
    """A time that there is not on that day is refused; of two with the same name, the first counts."""
    with pytest.raises(ValueError, match="02:30 does not exist on 2026-03-29"):
        begin_time("2026-03-29 2:30", NOW)
    assert begin_time("2026-10-25 2:30", NOW) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
