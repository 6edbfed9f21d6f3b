"""Moments as events write them, RFC 3339 in UTC, and as scripts count them, in milliseconds since 1970."""

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """Return a moment as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(time: str) -> int:
    """Return the milliseconds of a moment in RFC 3339. Raises ValueError."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
