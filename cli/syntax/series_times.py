"""The moments of a series: the same time of day on several days, in the time zone of the command line."""

from datetime import UTC, date, datetime, timedelta

from canhazgpu.cli.local_times import DAYS, LONG_DAYS, existing
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import zone

MOST = 100  # Moments of a series.
EVERY = "day, weekday, week, or days such as mon,wed"


def repeated(begin: datetime, every: str, until: str) -> list[datetime]:
    """Return the moments from `begin` on, in UTC, on the days that `every` names, up to the date `until`.

    If the day of `begin` is none of them, the first is later. Raises ValueError, also for a moment that does
    not exist because the clocks are put forward.
    """
    first = begin.astimezone(zone())
    days, last = _days(every, first.date()), _last_day(until)
    if last < first.date():
        raise ValueError(f"--until: {last} is before the first day, {first.date()}")
    moments: list[datetime] = []
    for number in range((last - first.date()).days + 1):
        day = first.date() + timedelta(days=number)
        if day.weekday() in days:
            wall = datetime.combine(day, first.time().replace(tzinfo=None))
            moments.append(begin.astimezone(UTC) if number == 0 else existing(wall))
        if len(moments) > MOST:
            raise ValueError(f"--until: a series can have {MOST} days at most")
    return moments


def _days(every: str, first: date) -> set[int]:
    """Return the days of the week that somebody wrote, Monday being 0."""
    word = every.strip().lower()
    if word in {"day", "daily"}:
        return set(range(7))
    if word in {"weekday", "weekdays"}:
        return set(range(5))
    if word in {"week", "weekly"}:
        return {first.weekday()}
    names = [one.strip() for one in word.split(",")]
    if not all(one in DAYS or one in LONG_DAYS for one in names):
        raise ValueError(f"--every: '{printable(every, 40)}' is not known: use {EVERY}")
    return {DAYS.index(one[:3]) for one in names}


def _last_day(text: str) -> date:
    word = text.strip()
    try:
        if word.startswith("+"):
            return (datetime.now().astimezone(zone()) + timedelta(seconds=parse_duration(word[1:]))).date()
        return date.fromisoformat(word)
    except (ValueError, OverflowError):
        raise ValueError(
            f"--until: '{printable(text, 40)}' is not a date such as 2026-12-18 or +3w"
        ) from None
