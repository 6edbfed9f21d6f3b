"""What a value must be beyond its type. No complaint repeats a value that may hold a secret."""

import zoneinfo
from typing import Any
from urllib.parse import urlsplit

LONGEST_HOST = 253
COMMANDS = ("notify.exec.command", "notify.email.address_command")


def complaint(key: str, value: Any) -> str | None:
    """Return what was expected of a value of the right type, None when it is as it should be."""
    if key == "redis.url" and not _is_redis_url(value):
        return "redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH"
    if key == "host" and not _is_host(value):
        return "a host name of letters, digits, '.' and '-'"
    if key == "notices.quiet.timezone" and not _is_zone(value):
        if not _is_zone("UTC"):
            return f"no time zone on a host without their data, not {value!r:.60}: install the package tzdata"
        return f"a time zone such as Europe/Berlin, not {value!r:.60}"
    if key in COMMANDS and value and not value[0].startswith("/"):
        return f"the absolute path of a program first, not {value[0]!r:.60}"
    return None


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises for one that is no number or out of range.
    except ValueError:
        return False
    by_path = parts.scheme == "unix" and bool(parts.path)
    return not url or by_path or (parts.scheme in ("redis", "rediss") and bool(parts.hostname))


def _is_host(name: str) -> bool:
    return 0 < len(name) <= LONGEST_HOST and all(c.isascii() and (c.isalnum() or c in ".-_") for c in name)


def _is_zone(name: str) -> bool:
    try:
        return not name or bool(zoneinfo.ZoneInfo(name))
    except (ValueError, KeyError, OSError):  # No name of a file below the folder; no such file; a folder.
        return False
