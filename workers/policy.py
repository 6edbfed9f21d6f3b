"""By which rules people are told: the settings of notices as the machines use them, in milliseconds."""

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
LONGEST_QUIET = 400  # Days looked ahead: who has no workday at all is quiet for so long.
DAY_MS = 86_400_000


class Policy(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The rules of one host, and which channels there are."""

    notices: Notices
    channels: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """Return the rules of these settings."""
        return cls(notices=settings.notices, channels=settings.notify.on)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps of telling, in the order of their time."""
        ordered = sorted(self.notices.steps, key=lambda step: step.after_ms)
        return tuple(step for step in ordered if step.channels != [TERMINATE])

    @cached_property
    def terminate_ms(self) -> int | None:
        """How long after the first notice was due processes are ended, None for never."""
        due = [step.after_ms for step in self.notices.steps if TERMINATE in step.channels]
        return min(due) if due and self.notices.terminate.enabled else None

    @property
    def terminate(self) -> Terminate:
        """How processes are ended."""
        return self.notices.terminate

    def concrete(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the channels that are on among `names`, where `webhook` stands for every webhook."""
        found = [one for name in names for one in self.channels if name in (one, one.partition(":")[0])]
        return tuple(dict.fromkeys(found))

    def wait_ms(self) -> int:
        """Return how long a first notice waits for more GPUs."""
        return round(self.notices.group_wait * 1000)

    def interval_ms(self) -> int:
        """Return the least time between two notices of one group."""
        return round(self.notices.group_interval * 1000)

    def hold_ms(self) -> int:
        """Return how long something has to be over before it is called so."""
        return round(self.notices.resolve_hold * 1000)

    def pause_ms(self, reminders: int) -> int:
        """Return how long until the next reminder, after so many."""
        notices = self.notices
        growth: int = min(notices.repeat_factor ** min(reminders, 64), LONGEST)  # Which is cut below.
        pause = notices.repeat_interval * growth
        return round(min(pause, max(notices.repeat_longest, notices.repeat_interval)) * 1000)

    def quiet_until(self, channel: str, now_ms: int) -> int | None:
        """Return when a channel that is quiet now may be used again, None when it may be now."""
        names = self.notices.quiet.channels
        if channel not in names and channel.partition(":")[0] not in names:
            return None
        return quiet_until(self.notices.quiet, now_ms)


def zone(name: str) -> tzinfo | None:
    """Return a time zone; None, the host's own, where it has no name. Raises KeyError and OSError."""
    return ZoneInfo(name) if name else None


def local(ms: int, timezone: str) -> datetime:
    """Return a moment as clocks on the wall show it."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone(timezone))


def quiet_until(quiet: Quiet, now_ms: int) -> int | None:
    """Return when the quiet that reigns at `now_ms` ends, None when it does not reign.

    It reigns while the clock on the wall shows quiet hours, also where that shows an hour twice or leaves
    one out. It ends after `now_ms`, and `LONGEST_QUIET` days later at the latest.
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
    """Return when the clock on the wall shows one of `edges` next, or when it is put forward or back before.

    Counted in UTC: of two moments in one zone Python compares what the clock shows, and an hour comes twice.
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
    """Return when the first digest after `now_ms` is due, None when there is none.

    Where an hour comes twice it is the first time; where its time is left out, as much later.
    """
    if digest.every == "off":
        return None
    today = local(now_ms, timezone).date()
    at, where = time.fromisoformat(digest.at), zone(timezone)
    days = (today + timedelta(days=day) for day in range(9))
    wanted = (day for day in days if digest.every == "daily" or DAYS[day.weekday()] == digest.weekday)
    moments = (_ms(datetime.combine(day, at, where)) for day in wanted)
    return next(ms for ms in moments if ms > now_ms)
