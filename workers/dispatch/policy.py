"""The rules for notices: the settings in the form that the state machines use, in milliseconds."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import cached_property
from zoneinfo import ZoneInfo

import msgspec

from canhazgpu.config.notices import Digest, Notices, Quiet, Step, Terminate
from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import LONGEST

TERMINATE = "terminate"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_QUIET = 400  # Days to look ahead; the longest quiet time if there are no workdays.
DAY_MS = 86_400_000


class Policy(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The rules and channels of one host."""

    notices: Notices
    channels: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """Return the rules of these settings."""
        return cls(notices=settings.notices, channels=settings.notify.on)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The escalation steps in the order of their time."""
        ordered = sorted(self.notices.steps, key=lambda step: step.after_ms)
        return tuple(step for step in ordered if step.channels != [TERMINATE])

    @cached_property
    def terminate_ms(self) -> int | None:
        """The time after the first notice at which processes are ended, or None for never."""
        due = [step.after_ms for step in self.notices.steps if TERMINATE in step.channels]
        return min(due) if due and self.notices.terminate.enabled else None

    @property
    def terminate(self) -> Terminate:
        """How processes are ended."""
        return self.notices.terminate

    def concrete(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the enabled channels among `names`, where `webhook` means all webhooks."""
        found = [one for name in names for one in self.channels if name in (one, one.partition(":")[0])]
        return tuple(dict.fromkeys(found))

    def wait_ms(self) -> int:
        """Return how long the first notice waits for more GPUs."""
        return round(self.notices.group_wait * 1000)

    def interval_ms(self) -> int:
        """Return the minimum time between two notices of one group."""
        return round(self.notices.group_interval * 1000)

    def hold_ms(self) -> int:
        """Return how long a violation must be over before it counts as resolved."""
        return round(self.notices.resolve_hold * 1000)

    def pause_ms(self, reminders: int) -> int:
        """Return the time until the next reminder after a number of reminders."""
        notices = self.notices
        growth: int = min(notices.repeat_factor ** min(reminders, 64), LONGEST)  # Which is cut below.
        pause = notices.repeat_interval * growth
        return round(min(pause, max(notices.repeat_longest, notices.repeat_interval)) * 1000)

    def quiet_until(self, channel: str, now_ms: int) -> int | None:
        """Return when a quiet channel can be used again, or None if it can be used now."""
        names = self.notices.quiet.channels
        if channel not in names and channel.partition(":")[0] not in names:
            return None
        return quiet_until(self.notices.quiet, now_ms)


def zone(name: str) -> tzinfo | None:
    """Return a time zone; None means the host's. Raises KeyError and OSError."""
    return ZoneInfo(name) if name else None


def local(ms: int, timezone: str) -> datetime:
    """Return a time as local time."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone(timezone))


def quiet_until(quiet: Quiet, now_ms: int) -> int | None:
    """Return when the quiet time at `now_ms` ends, or None if it is not quiet.

    It is quiet while the local time is within quiet hours, also when an hour is repeated or skipped. The end
    is after `now_ms`, at most `LONGEST_QUIET` days later.
    """
    moment, last_ms = local(now_ms, quiet.timezone), now_ms + LONGEST_QUIET * DAY_MS
    if not _is_quiet(quiet, moment):
        return None
    hours = _hours(quiet.hours)
    edges = (time(0), hours[1]) if hours else (time(0),)
    while _is_quiet(quiet, moment) and _ms(moment) < last_ms:
        moment = _next(moment, edges, quiet.timezone)
    return _ms(moment)


def _next(now: datetime, edges: Iterable[time], timezone: str) -> datetime:
    """Return the next time at which the local time is one of `edges`, or at which the clock is changed.

    This counts in UTC, because Python compares times of one zone by local time, and an hour can be repeated.
    """
    clock, old = now.replace(tzinfo=None), now.utcoffset()
    days = (clock.date(), clock.date() + timedelta(days=1))
    shown = min(one for day in days for at in edges if (one := datetime.combine(day, at)) > clock)
    then = local(_ms(now) + (shown - clock) // timedelta(milliseconds=1), timezone)
    if then.utcoffset() == old:
        return then
    before, after = int(now.timestamp()), int(then.timestamp())
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (
            (middle, after) if local(middle * 1000, timezone).utcoffset() == old else (before, middle)
        )
    return local(after * 1000, timezone)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _is_quiet(quiet: Quiet, now: datetime) -> bool:
    if quiet.workdays and DAYS[now.weekday()] not in quiet.workdays:
        return True
    if now.date().isoformat() in quiet.holidays:
        return True
    hours = _hours(quiet.hours)
    if hours is None:
        return False
    begin, end = hours
    clock = now.time().replace(tzinfo=None)
    return begin <= clock < end if begin <= end else clock >= begin or clock < end


def _hours(text: str) -> tuple[time, time] | None:
    begin, _, end = text.partition("-")
    return (time.fromisoformat(begin), time.fromisoformat(end)) if text else None


def next_digest(digest: Digest, timezone: str, now_ms: int) -> int | None:
    """Return when the first digest after `now_ms` is due, or None if digests are off.

    If its hour is repeated, it is due the first time; if its time is skipped, it is due that much later.
    """
    if digest.every == "off":
        return None
    today = local(now_ms, timezone).date()
    at, where = time.fromisoformat(digest.at), zone(timezone)
    days = (today + timedelta(days=day) for day in range(9))
    wanted = (day for day in days if digest.every == "daily" or DAYS[day.weekday()] == digest.weekday)
    moments = (_ms(datetime.combine(day, at, where)) for day in wanted)
    return next(ms for ms in moments if ms > now_ms)
