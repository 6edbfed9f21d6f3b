"""Quiet hours and digests in the nights in which clocks are put forward and back, minute by minute.

The oracle counts minutes of UTC and reads each off the zone's clock; it never compares two local times.
"""

import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from zoneinfo import ZoneInfo

import pytest

from canhazgpu.config.notices import Day, Digest, Quiet
from canhazgpu.workers.dispatch.policy import next_digest, quiet_until

MINUTE, DAY = 60_000, 86_400_000
WEEKDAYS: list[Day] = ["mon", "tue", "wed", "thu", "fri"]
NIGHTS = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # By half an hour.
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Havana", "2026-03-08"),  # There is no midnight.
    ("America/Havana", "2026-11-01"),
    ("America/Santiago", "2026-04-05"),  # From midnight back into Saturday.
    ("America/Santiago", "2026-09-06"),
    ("America/St_Johns", "2006-10-29"),  # At one minute past midnight, back into Saturday.
    ("Pacific/Apia", "2011-12-30"),  # A day that never was.
]


class Night:
    """Every minute of the three days around a clock change: its time in UTC, and the local time."""

    def __init__(self, zone: str, day: str) -> None:
        """Compute the local times."""
        self.zone = zone
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)
        self.begin_ms = round(begin.timestamp() * 1000)
        where = ZoneInfo(zone)
        shown = [
            datetime.fromtimestamp(self.begin_ms / 1000 + minute * 60, where) for minute in range(3 * 1440)
        ]
        self.days = [one.date().isoformat() for one in shown]
        self.weekdays = [one.strftime("%a").lower() for one in shown]
        self.minutes = [one.hour * 60 + one.minute for one in shown]
        changes = [i for i in range(1, len(shown)) if shown[i].utcoffset() != shown[i - 1].utcoffset()]
        (self.change,) = changes
        before = self.minutes[self.change - 1] + 1
        both = {before % 1440, self.minutes[self.change]}  # What it showed, and what it shows from then on.
        around = {(one + more) % 1440 for one in both for more in (-90, -45, -15, -1, 0, 1, 15, 30, 45, 90)}
        self.edges = sorted(around | {0, 12 * 60})

    def ms(self, minute: int) -> int:
        """Return the time of a minute."""
        return self.begin_ms + minute * MINUTE

    def is_quiet(self, quiet: Quiet) -> list[bool]:
        """Return the time of every minute."""
        found = [False] * len(self.minutes)
        if quiet.hours:
            begin, end = (int(at[:2]) * 60 + int(at[3:]) for at in quiet.hours.split("-"))
            inside = [(one - begin) % 1440 < (end - begin) % 1440 for one in range(1440)]
            found = [inside[one] for one in self.minutes]
        free = [bool(quiet.workdays) and one not in quiet.workdays for one in self.weekdays]
        off = [one in quiet.holidays for one in self.days]
        return [any(three) for three in zip(found, free, off, strict=True)]


@pytest.fixture(scope="module", params=NIGHTS, ids=[f"{zone} {day}" for zone, day in NIGHTS])
def night(request: pytest.FixtureRequest) -> Night:
    """One night with a clock change."""
    return Night(*request.param)


def spelled(minute: int) -> str:
    """Return a time of day in the syntax of the settings."""
    return f"{minute // 60:02}:{minute % 60:02}"


def rules(night: Night) -> Iterator[Quiet]:
    """Return quiet hours around the change, with days off next to it."""
    for begin, end in product(night.edges, repeat=2):
        if begin != end:
            yield Quiet(hours=f"{spelled(begin)}-{spelled(end)}", timezone=night.zone)
    yield Quiet(workdays=WEEKDAYS, timezone=night.zone)
    for day in sorted(set(night.days)):
        yield Quiet(holidays=[day], timezone=night.zone)
        for end in night.edges[::3]:
            hours = f"22:00-{spelled(end)}"
            yield Quiet(hours=hours, holidays=[day], workdays=WEEKDAYS, timezone=night.zone)


def test_quiet_is_what_the_clock_shows_and_ends_in_the_future(night: Night) -> None:
    """It is quiet exactly while the local time is within quiet hours, and the end is always in the future."""
    looked = range(night.change - 120, night.change + 120, 17)
    for quiet in rules(night):
        silent = night.is_quiet(quiet)
        for minute in (*looked, night.change - 1, night.change, night.change + 1):
            until = quiet_until(quiet, night.ms(minute) + 1)
            if not silent[minute]:
                assert until is None, (quiet, minute)
                continue
            assert until is not None, (quiet, minute)
            assert until > night.ms(minute) + 1, (quiet, minute)
            ends = next((one for one in range(minute, len(silent)) if not silent[one]), None)
            if ends is not None:
                assert until == night.ms(ends), (quiet, minute)


def test_a_digest_is_due_in_the_future_and_once_a_day(night: Night) -> None:
    """The next digest is always in the future, and two digests are about a day apart."""
    for edge in night.edges:
        digest = Digest(every="daily", at=spelled(edge))
        dues = []
        for minute in range(0, 2 * 1440, 15):
            due = next_digest(digest, night.zone, night.ms(minute))
            assert due is not None
            assert due > night.ms(minute), (digest, minute)
            dues.append(due)
        assert dues == sorted(dues)
        ordered = sorted(set(dues))
        assert all(20 * 60 <= (b - a) / MINUTE <= 28 * 60 for a, b in pairwise(ordered))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe"])
def test_the_hosts_own_clock_changes_too(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for the host's own time zone, without the name of a zone."""
    monkeypatch.setenv("TZ", zone)
    clock.tzset()
    try:
        for day in [day for name, day in NIGHTS if name == zone]:
            night = Night(zone, day)
            for edge in night.edges:
                named = Quiet(hours=f"21:30-{spelled(edge)}", timezone=zone)
                own = Quiet(hours=named.hours)
                for minute in range(night.change - 100, night.change + 100, 9):
                    now_ms = night.ms(minute)
                    assert quiet_until(own, now_ms) == quiet_until(named, now_ms)
                    digest = Digest(every="daily", at=spelled(edge))
                    assert next_digest(digest, "", now_ms) == next_digest(digest, zone, now_ms)
    finally:
        monkeypatch.undo()
        clock.tzset()
