"""Times: RFC 3339 in UTC, as in events; milliseconds since 1970, as in scripts; local time, for people."""

from datetime import UTC, datetime, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ZONES: list[tzinfo | None] = [None]  # None: that of this process, by TZ or else the host's.


def rfc3339(ms: int) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(time: str) -> int:
    """Return an RFC 3339 time in milliseconds. Raises ValueError."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def use_zone(name: str) -> None:
    """Show times in this time zone; empty for the one of this process. Raises KeyError and OSError."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few need it

    _ZONES[:] = [UTC if name == "UTC" else ZoneInfo(name) if name else None]


def zone() -> tzinfo | None:
    """Return the time zone in which times are shown; None for the one of this process."""
    return _ZONES[0]


def local_time(moment: str | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an RFC 3339 time as `2026-11-24 10:15:47 CET`; empty if it is not valid."""
    try:
        found = datetime.fromisoformat(moment or "")
        shown = found.astimezone(zone()) if found.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{shown.strftime(form)} {zone_name(shown)}" if shown else ""


def zone_name(moment: datetime) -> str:
    """Return `CET`, or `UTC-03` for a zone whose name is only a number."""
    name = moment.tzname() or "local time"
    return f"UTC{name}" if name[:1] in "+-" else name
