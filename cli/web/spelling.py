"""How times and amounts read on the page. The script of the page spells times in the same way."""

from datetime import datetime, tzinfo

from canhazgpu.events.durations import spell_length

MINUTE = 60.0
GIB = 1024


def spell_time(at: str, form: str, now: datetime) -> str:
    """Return a time (RFC 3339) in the zone of `now`.

    The form `at` is `14:05 UTC`, with the date if it is not today; `from_now` is `in 2h 5m`, `clock` is
    `14:05`, and `day` is `Mon Nov 30`.
    """
    try:
        found = datetime.fromisoformat(at).astimezone(now.tzinfo)
    except (ValueError, OverflowError, OSError):
        return at
    if form == "from_now":
        return spell_distance((found - now).total_seconds())
    if form == "clock":
        return f"{found:%H:%M}"
    if form == "day":
        return f"{found:%a} {found:%b} {found.day}"
    clock = f"{found:%H:%M} {zone_name(found)}"
    return clock if found.date() == now.date() else f"{found:%b} {found.day}, {clock}"


def spell_distance(seconds: float) -> str:
    """Return `in 2h 5m`, `5m ago` or `now`."""
    if abs(seconds) < MINUTE / 2:
        return "now"
    length = spell_length(abs(seconds) + MINUTE / 2)
    length = length.removesuffix("s").rpartition(" ")[0] if length.endswith("s") else length
    length = length.removeprefix("0h ")
    return f"in {length}" if seconds > 0 else f"{length} ago"


def zone_name(at: datetime) -> str:
    """Return the name of a time's zone, such as CET or UTC+3."""
    name = at.tzname() or ""
    return f"UTC{name}" if name[:1] in "+-" else name


def zone_of(name: str | None) -> tzinfo | None:
    """Return the reader's time zone; None if there is no such zone."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - reads files

    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):
        return None


def spell_memory(mb: int) -> str:
    """Return an amount of memory, which is in MiB."""
    return f"{mb} MiB" if mb < GIB else f"{mb / GIB:.1f} GiB"


def spell_hours(seconds: float) -> str:
    """Return GPU-hours."""
    return f"{seconds / 3600:.1f} h"
