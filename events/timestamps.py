"""Converts times between RFC 3339 in UTC, as in events, and milliseconds since 1970, as in scripts."""

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(time: str) -> int:
    """Return an RFC 3339 time in milliseconds. Raises ValueError."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
