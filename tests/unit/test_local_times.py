"""Times for people: local time with the name of its zone; and times that people write."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from canhazgpu.cli import local_times
from canhazgpu.cli.local_times import as_utc, clock, local
from canhazgpu.events import timestamps
from canhazgpu.events.timestamps import local_time, use_zone

WINTER, SUMMER = "2026-01-24T09:15:47.123Z", "2026-07-24T09:15:47Z"
NOW = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)  # 9:30 in Berlin.


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


def test_the_zone_of_the_process_is_named() -> None:
    """It has its name of that time of the year."""
    assert local_time(WINTER) == "2026-01-24 10:15:47 CET"
    assert local_time(SUMMER) == "2026-07-24 11:15:47 CEST"
    assert local(SUMMER, local_times.SHORT) == "11:15 CEST"


def test_a_zone_of_the_settings_wins() -> None:
    """A zone whose name is only a number is said as a distance from UTC."""
    use_zone("UTC")
    assert local_time(SUMMER) == "2026-07-24 09:15:47 UTC"
    try:
        use_zone("America/Sao_Paulo")
    except KeyError:
        pytest.skip("this host has no time zone data")
    assert local_time(SUMMER) == "2026-07-24 06:15:47 UTC-03"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Nowhere/Bad", "09:15 UTC"),
        ("Foo", "09:15 UTC"),
        ("/etc/passwd", "09:15 UTC"),
        ("a\x1b[2Jb", "09:15 UTC"),
        ("XXX-3", "12:15 XXX"),
        ("<+03>-3", "12:15 UTC+03"),
        ("UTC", "09:15 UTC"),
        ("UTC0", "09:15 UTC"),
    ],
)
def test_what_is_no_zone_is_utc(monkeypatch: pytest.MonkeyPatch, name: str, shown: str) -> None:
    """A wrong TZ never gives a time a name that it does not have: it is UTC, and is said once."""
    said: list[str] = []
    monkeypatch.setattr(local_times, "WARNED", [said.append])
    monkeypatch.setenv("TZ", name)
    time.tzset()
    assert [local(SUMMER, local_times.SHORT) for _ in range(2)] == [shown] * 2
    wrong = name[:1] not in "XU<"
    assert [line.isprintable() for line in said] == [True] * wrong
    assert as_utc("10:00", NOW)[-10:] == ("T10:00:00Z" if wrong or name[0] == "U" else "T07:00:00Z")
    assert local_times.zone_for_service() == ("UTC" if wrong or name == "UTC" else "local")


def test_a_zone_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library reads such a file, with and without a colon."""
    if not Path("/usr/share/zoneinfo/Europe/Berlin").exists():
        pytest.skip("this host has no time zone data")
    for name in ("Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"):
        monkeypatch.setenv("TZ", name)
        time.tzset()
        local_times._FOUND.clear()  # noqa: SLF001
        assert local(SUMMER, local_times.SHORT) == "11:15 CEST"


def test_a_number_is_no_name() -> None:
    """A zone without a name of its own."""
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3), "-03"))
    assert timestamps.zone_name(moment) == "UTC-03"


@pytest.mark.parametrize("text", ["", None, "soon", "2026-01-24T09:15:47", "99999-01-01T00:00:00Z"])
def test_what_is_no_time_is_nothing(text: str | None) -> None:
    """No exception, and no time that is made up."""
    assert local_time(text) == ""


def test_a_short_time_has_a_date_if_it_is_another_day() -> None:
    """By the local calendar: 23:30 UTC is already tomorrow."""
    assert clock("2026-07-24T11:00:00Z", "2026-07-24T09:00:00Z") == "13:00"
    assert clock("2026-07-24T23:30:00Z", "2026-07-24T09:00:00Z") == "07-25 01:30"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("9:00", "2026-11-27T08:00:00Z"),
        ("09:29:59", "2026-11-27T08:29:59Z"),
        ("10:00", "2026-11-26T09:00:00Z"),  # Not yet today.
        ("today", "2026-11-26T23:00:00Z"),
        ("Yesterday", "2026-11-25T23:00:00Z"),
        ("2026-11-27 10:00", "2026-11-27T09:00:00Z"),
        ("2026-07-01", "2026-06-30T22:00:00Z"),
        ("2026-07-01T12:00:30", "2026-07-01T10:00:30Z"),
    ],
)
def test_what_people_write_is_local(text: str, moment: str) -> None:
    """A time of day, a day, and a date without a zone."""
    assert as_utc(text, NOW) == moment


@pytest.mark.parametrize("text", ["2h", "7d", "2026-11-25T14:30Z", "25:00", "tomorrow", "2026-13-01", ""])
def test_anything_else_is_left_to_the_parser(text: str) -> None:
    """Durations, times with a zone, and mistakes."""
    assert as_utc(text, NOW) == text


def test_the_zone_of_the_settings_is_for_commands_without_tz(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    """TZ wins over `notices.quiet.timezone`, which wins over the host's zone."""
    config = os.path.join(tmp_path, "config.toml")  # noqa: PTH118 - a fixture's path
    with open(config, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write('[notices.quiet]\ntimezone = "UTC"\n')
    monkeypatch.setenv("CANHAZGPU_CONFIG", config)
    assert local(SUMMER).endswith("CEST")
    monkeypatch.delenv("TZ")
    local_times._FOUND.clear()  # noqa: SLF001
    assert local(SUMMER).endswith("09:15:47 UTC")
