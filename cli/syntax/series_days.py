"""The days of a series, as people write them."""

from datetime import date, datetime, timedelta, tzinfo

from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import DAYS, LONG_DAYS

MOST = 100  # Days of a series.
EVERY = "day, weekday, week, or days such as mon,wed"


def series_days(first: date, every: str, until: str, zone: tzinfo | None) -> list[date]:
    """Return the days from `first` on that `every` names, up to the date `until`. Raises ValueError."""
    days, last = _days(every, first), _last_day(until, zone)
    if last < first:
        raise ValueError(f"--until: {last} is before the first day, {first}")
    found: list[date] = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day.weekday() in days:
            found.append(day)
        if len(found) > MOST:
            raise ValueError(f"--until: a series can have {MOST} days at most")
    return found


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


def _last_day(text: str, zone: tzinfo | None) -> date:
    word = text.strip()
    try:
        if word.startswith("+"):
            return (datetime.now().astimezone(zone) + timedelta(seconds=parse_duration(word[1:]))).date()
        return date.fromisoformat(word)
    except (ValueError, OverflowError):
        raise ValueError(
            f"--until: '{printable(text, 40)}' is not a date such as 2026-12-18 or +3w"
        ) from None
