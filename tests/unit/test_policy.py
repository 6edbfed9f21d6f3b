"""Quiet hours, workdays and the times of digests, in real time zones."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.config.channels import Exec, Notify, Wall, Webhook
from canhazgpu.config.notices import Digest, Notices, Quiet
from canhazgpu.config.settings import Settings
from canhazgpu.workers.dispatch.policy import Policy, next_digest, quiet_until

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str, zone: Any = BERLIN) -> int:
    """Return a time given as local time."""
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def ends(quiet: Quiet, at: str) -> str | None:
    """Return the end of quiet hours at a time, both in local time."""
    until = quiet_until(quiet, ms(at))
    return None if until is None else datetime.fromtimestamp(until / 1000, BERLIN).strftime("%Y-%m-%d %H:%M")


NIGHT = Quiet(hours="22:00-07:00", timezone="Europe/Berlin")
OFFICE = Quiet(
    hours="18:00-09:00",
    workdays=["mon", "tue", "wed", "thu", "fri"],
    holidays=["2026-12-25"],
    timezone="Europe/Berlin",
)


@pytest.mark.parametrize(
    ("quiet", "at", "until"),
    [
        (Quiet(), "2026-11-25 03:00", None),
        (NIGHT, "2026-11-25 21:59", None),
        (NIGHT, "2026-11-25 22:00", "2026-11-26 07:00"),
        (NIGHT, "2026-11-26 00:00", "2026-11-26 07:00"),
        (NIGHT, "2026-11-26 06:59", "2026-11-26 07:00"),
        (NIGHT, "2026-11-26 07:00", None),
        (Quiet(hours="12:00-13:00", timezone="Europe/Berlin"), "2026-11-25 12:30", "2026-11-25 13:00"),
        (OFFICE, "2026-11-25 10:00", None),
        (OFFICE, "2026-11-25 18:00", "2026-11-26 09:00"),
        (OFFICE, "2026-11-27 19:00", "2026-11-30 09:00"),  # Friday evening to Monday morning.
        (OFFICE, "2026-12-24 20:00", "2026-12-28 09:00"),  # Over a holiday and a week-end.
        (Quiet(workdays=["mon"], timezone="Europe/Berlin"), "2026-11-25 10:00", "2026-11-30 00:00"),
        (NIGHT, "2026-03-28 23:00", "2026-03-29 07:00"),  # The night that is an hour shorter.
        (NIGHT, "2026-10-24 23:00", "2026-10-25 07:00"),  # The night that is an hour longer.
    ],
)
def test_quiet(quiet: Quiet, at: str, until: str | None) -> None:
    """The end of quiet hours is right, and None outside of them."""
    assert ends(quiet, at) == until


@given(
    st.integers(0, 2 * 10**12), st.sampled_from([NIGHT, OFFICE, Quiet(hours="00:00-23:59", timezone="UTC")])
)
def test_the_end_of_quiet_is_not_quiet(now_ms: int, quiet: Quiet) -> None:
    """The end of quiet hours is in the future, and it is not quiet then."""
    until = quiet_until(quiet, now_ms)
    assert until is None or (until > now_ms and quiet_until(quiet, until) is None)


def test_who_has_no_workday_is_quiet_for_long() -> None:
    """If every day is quiet, the end is bounded, and computing it does not hang."""
    until = quiet_until(Quiet(hours="00:00-00:00", holidays=[], workdays=[], timezone="UTC"), 0)
    assert until is None  # From midnight to midnight is no time at all.
    assert quiet_until(Quiet(workdays=["mon"], holidays=["1970-01-05"], timezone="UTC"), 0) == 11 * 86_400_000


@pytest.mark.parametrize(
    ("digest", "at", "due"),
    [
        (Digest(every="off"), "2026-11-25 03:00", None),
        (Digest(every="daily", at="08:00"), "2026-11-25 07:59", "2026-11-25 08:00"),
        (Digest(every="daily", at="08:00"), "2026-11-25 08:00", "2026-11-26 08:00"),
        (Digest(every="weekly", at="08:00", weekday="mon"), "2026-11-25 08:00", "2026-11-30 08:00"),
        (Digest(every="weekly", at="08:00", weekday="wed"), "2026-11-25 08:00", "2026-12-02 08:00"),
        (Digest(every="daily", at="02:30"), "2026-03-28 12:00", "2026-03-29 03:30"),  # There is no 02:30.
    ],
)
def test_when_a_digest_is_due(digest: Digest, at: str, due: str | None) -> None:
    """The next digest is at its time of day, after now."""
    found = next_digest(digest, "Europe/Berlin", ms(at))
    assert (found and datetime.fromtimestamp(found / 1000, BERLIN).strftime("%Y-%m-%d %H:%M")) == due


@pytest.mark.parametrize("factor", [1, 2, 100, 99_999_999_999_999_999_999, 10**400])
def test_no_factor_makes_a_pause_that_cannot_be_counted(factor: int) -> None:
    """Pauses between reminders grow up to the maximum, for any number of reminders."""
    notices = Notices(repeat_interval=60.0, repeat_factor=factor, repeat_longest=86400.0)
    pauses = [Policy(notices=notices, channels=()).pause_ms(count) for count in (0, 1, 2, 15, 63, 10**9)]
    assert pauses == [round(min(60 * min(factor, 10**9) ** n, 86400)) * 1000 for n in (0, 1, 2, 15, 63, 64)]


def test_the_channels_that_are_on() -> None:
    """By default the log and terminals are on; webhooks, programs and plugins are on if configured."""
    assert Settings().notify.on == ("wall", "log")
    notify = Notify(
        wall=Wall(enabled=False),
        webhook={"chat": Webhook(url="https://x/y"), "ops": Webhook(url="https://x/z")},
        exec=Exec(command=["/bin/true"]),
        plugins={"pager": {}},
    )
    names = Settings(notify=notify).notify.on
    assert names == ("log", "exec", "webhook:chat", "webhook:ops", "pager")
    policy = Policy(notices=Notices(), channels=names)
    assert policy.concrete(["webhook", "wall", "log", "webhook:ops"]) == (
        "webhook:chat",
        "webhook:ops",
        "log",
    )


def test_the_hosts_own_time_zone_is_the_default() -> None:
    """Without the name of a time zone, the host's own zone is used."""
    here = datetime.fromtimestamp(0, UTC).astimezone().strftime("%H:%M")
    quiet = Quiet(hours=f"{here}-{(int(here[:2]) + 1) % 24:02}:{here[3:]}")
    assert quiet_until(quiet, 1) == 3_600_000
