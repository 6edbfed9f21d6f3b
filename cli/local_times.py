"""Local times on the command line: how they are shown, and how people write them.

The zone is that of TZ, else the time zone of the settings (`notices.quiet.timezone`), else the host's.
The C library shows UTC under the name of a TZ that is no time zone; here it is called UTC, with a warning.
"""

import os
from datetime import UTC, date, datetime, time, timedelta

from canhazgpu.client.connection import WARNED, BadSettings, read_settings
from canhazgpu.events.default_paths import CONFIG
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import DAYS, LONG_DAYS, local_time, use_zone, zone

SHORT, DAY, CLOCK = "%H:%M", "%m-%d %H:%M", "%H:%M:%S"
MINUTES = "%Y-%m-%d %H:%M"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_DATE = r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2})?)?"
_RULE = r"([A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?\d"  # As in `CET-1CEST`.
BEGINS = "+2h, 9:00, 'tomorrow 9:00', 'monday 9:00' or 2026-12-01T09:00"
ZONES = "/usr/share/zoneinfo"
_FOUND: list[bool] = []


def _find_zone() -> None:
    """Take the zone of TZ or of the settings, once."""
    if _FOUND:
        return
    _FOUND.append(True)
    if named := os.environ.get("TZ"):
        if not _is_zone(named):
            _use_named(named)
        return
    try:
        settings = read_settings(os.environ.get("CANHAZGPU_CONFIG") or CONFIG)
        use_zone(str(settings["notices"]["quiet"]["timezone"]))
    except (BadSettings, KeyError, TypeError, ValueError, OSError):  # The service reports a bad name.
        pass


def _is_zone(name: str) -> bool:
    """Return whether the C library knows a value of TZ: a rule, or a file with one."""
    path = name.removeprefix(":")
    if path in {"", "UTC", "GMT"}:
        return True
    try:
        with open(os.path.join(os.environ.get("TZDIR", ZONES), path), "rb") as file:  # noqa: PTH118, PTH123
            if file.read(4) == b"TZif":
                return True
    except (OSError, ValueError):
        pass
    import re  # noqa: PLC0415 - few zones are rules

    return bool(re.match(_RULE, name, re.ASCII))


def _use_named(name: str) -> None:
    """Use a zone that only Python may know, else UTC."""
    try:
        use_zone(name.removeprefix(":"))
    except (KeyError, ValueError, OSError):
        use_zone("UTC")
        for warn in WARNED:
            warn(f"TZ={printable(name, 40)} is not a time zone: times are in UTC")


def local(moment: str | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an RFC 3339 time as local time with the name of its zone, safe to print."""
    _find_zone()
    return printable(local_time(moment, form))


def clock(moment: str, other: str) -> str:
    """Return the local time of day, without a zone; with the date if it is not that of `other`."""
    same = local(moment, "%Y-%m-%d") == local(other, "%Y-%m-%d")
    return local(moment, SHORT if same else DAY).rpartition(" ")[0]


def as_utc(text: str, now: datetime | None = None) -> str:
    """Return a time that somebody wrote as RFC 3339 in UTC, if it is local; anything else unchanged.

    Local are `10:00` (the last time that it was), `today`, `yesterday`, and a date without a zone.
    """
    import re  # noqa: PLC0415 - tables show times, and read none

    _find_zone()
    now = (now or datetime.now().astimezone()).astimezone(zone())
    word = text.strip().lower()
    if word in {"today", "yesterday"}:
        return _utc(datetime.combine(now.date() - timedelta(days=word == "yesterday"), time()))
    if re.fullmatch(_CLOCK, word, re.ASCII):
        try:
            shown = time.fromisoformat(word.rjust(5 if len(word) < 6 else 8, "0"))  # noqa: PLR2004 - 9:00
        except ValueError:
            return text
        day = now.date() - timedelta(days=_instant(now.date(), shown) > now)
        return _utc(datetime.combine(day, shown))
    if re.fullmatch(_DATE, word, re.ASCII):
        try:
            return _utc(datetime.fromisoformat(word))
        except ValueError:
            return text
    return text


def begin_time(text: str, now: datetime | None = None) -> datetime:
    """Return the moment that somebody wrote as the begin of something, in UTC. Raises ValueError.

    It is `+2h` or `now+2h`, a time of day (the next time that it is), that and a day (`tomorrow 9:00`,
    `monday 9:00`, `2026-12-01 9:00`), or RFC 3339.
    """
    import re  # noqa: PLC0415 - tables show times, and read none

    from canhazgpu.events.durations import parse_duration  # noqa: PLC0415

    _find_zone()
    now = (now or datetime.now().astimezone()).astimezone(zone())
    word = " ".join(text.lower().split())
    if word == "now":
        return now.astimezone(UTC)
    word = re.sub(r"^now ?\+", "+", word)  # As in Slurm and at.
    if word.startswith("+"):
        return now.astimezone(UTC) + timedelta(seconds=parse_duration(word[1:].strip()))
    if found := re.fullmatch(rf"(?:(\S+?)(?: |(?<=\d)t))?({_CLOCK})", word, re.ASCII):
        shown = _time_of_day(text, found[2])
        day = _day(text, found[1], now.date()) if found[1] else now.date()
        again = 0 if found[1] in {"today", "tomorrow"} or "-" in (found[1] or "") else 7 if found[1] else 1
        if again and _aware(datetime.combine(day, shown)) <= now:
            day += timedelta(days=again)
        return existing(datetime.combine(day, shown))
    try:
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip()))
    except ValueError:
        raise ValueError(f"'{printable(text, 40)}' is not a time: use {BEGINS}") from None
    if moment.tzinfo is None:
        raise ValueError(f"'{printable(text, 40)}' has no time of day: use {BEGINS}")
    return moment.astimezone(UTC)


def _time_of_day(text: str, clock: str) -> time:
    try:
        return time.fromisoformat(clock.rjust(5 if len(clock) < 6 else 8, "0"))  # noqa: PLR2004 - 9:00
    except ValueError:
        raise ValueError(f"'{printable(text, 40)}': {clock} is not a time of day, such as 9:00") from None


def _day(text: str, word: str, today: date) -> date:
    if word in {"today", "tomorrow"}:
        return today + timedelta(days=word == "tomorrow")
    if word in DAYS or word in LONG_DAYS:
        return today + timedelta(days=(DAYS.index(word[:3]) - today.weekday()) % 7)
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise ValueError(f"'{printable(text, 40)}': {printable(word, 20)} is no day: use {BEGINS}") from None


def existing(wall: datetime) -> datetime:
    """Return a local time in UTC. Raises ValueError if the clocks are put forward over it."""
    moment = _aware(wall).astimezone(UTC)
    if moment.astimezone(zone()).replace(tzinfo=None) != wall:
        raise ValueError(f"{wall:%H:%M} does not exist on {wall:%Y-%m-%d}: the clocks are put forward then")
    return moment


def rfc3339(moment: datetime) -> str:
    """Return a moment in UTC as the service reads it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def zone_for_service() -> str:
    """Return the name of the time zone of this process for the service: `local` if it has no name."""
    _find_zone()
    if zone() is UTC:
        return "UTC"
    name = getattr(zone(), "key", None) or os.environ.get("TZ", "").removeprefix(":")
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few need it

    try:
        return ZoneInfo(name or _linked()).key
    except (KeyError, ValueError, OSError):
        return "local"


def _linked() -> str:
    """Return the name of this host's time zone by its link, or an empty text."""
    try:
        return os.readlink("/etc/localtime").partition("zoneinfo/")[2]  # noqa: PTH115 - pathlib is slow to import
    except OSError:
        return ""


def _instant(day: date, shown: time) -> datetime:
    return _aware(datetime.combine(day, shown))


def _aware(wall: datetime) -> datetime:
    where = zone()
    return wall.replace(tzinfo=where) if where else wall.astimezone()


def _utc(wall: datetime) -> str:
    try:
        return datetime.fromtimestamp(_aware(wall).timestamp(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return wall.isoformat()
