"""Validates values beyond their types. Messages never repeat a value that may contain a secret."""

import ipaddress
import os
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct, structs

from canhazgpu.config.addresses import BadAddress, split_address
from canhazgpu.config.channels import Webhook
from canhazgpu.config.providers import BUILT_IN, provider_names
from canhazgpu.config.routing import RESERVED_NAMES
from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client import endpoint
from canhazgpu.events.sanitize import printable

LONGEST_HOST = 253
LONGEST_SOCKET = 107  # Bytes of a Unix socket's path.
EMBEDDED_SOCKET = "/redis/redis.sock"  # Where the embedded Redis listens, in state_dir.


def expected_instead(key: str, value: Any) -> str | None:
    """Return what was expected instead of a value of the right type, or None if it is valid."""
    expected = CHECKS[key](value) if key in CHECKS else None
    return expected or ("text without a NUL character" if _has_nul(value) else None)


def _has_nul(value: Any) -> bool:
    """Return whether a string in it has a NUL character, which no path, program or address can have."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Struct):
        return _has_nul(structs.asdict(value))
    if isinstance(value, dict):
        return any(map(_has_nul, [*value, *value.values()]))
    return isinstance(value, list) and any(map(_has_nul, value))


def _file(path: str) -> str | None:
    good = Path(path).name not in ("", "..") and "\0" not in path
    return None if good else f"the path of a file, not {path!r:.60}"


def _socket(path: str) -> str | None:
    return _file(path) or _too_long(path)


def _too_long(path: str, inside: str = "") -> str | None:
    """Return what was expected if the path of a socket at `path`, or at `inside` below it, is too long."""
    length, most = len(os.fsencode(path)), LONGEST_SOCKET - len(inside)
    if length <= most:
        return None
    what = f"it contains the socket {inside[1:]}" if inside else "it is the path of a socket"
    return f"a path of at most {most} bytes, because {what}; this one has {length}"


def _folder(path: str) -> str | None:
    good = path and "\0" not in path
    return None if good else f"the path of a directory, not {path!r:.60}"


def _directory(path: str) -> str | None:
    return None if path.startswith("/") else f"the absolute path of a directory, not {path!r:.60}"


def _redis_url(url: str) -> str | None:
    try:
        if url:
            endpoint.check(url)
        if url.startswith("unix:"):
            return _too_long(urlsplit(url).path)
    except endpoint.BadUrl as bad:
        return str(bad)
    return None


def _absolute(path: str) -> str | None:
    """Return what was expected of the path of an optional file."""
    good = not path or path.startswith("/")
    return None if good else f"the absolute path of a file, not {path!r:.60}"


def _host(name: str) -> str | None:
    return None if _is_host(name) else "a host name of letters, digits, '.' and '-'"


def _timezone(name: str) -> str | None:
    if _is_zone(name):
        return None
    if not _is_zone("UTC"):
        return f"no time zone, because this host has no data for {name!r:.60}: install the package tzdata"
    return f"a time zone such as Europe/Berlin, not {name!r:.60}"


def _contact(text: str) -> str | None:
    """Return what was expected of the contact, which must be printable text."""
    good = printable(text, len(text)) == text
    return None if good else f"one line without control characters, not {text!r:.60}"


def _hours(hours: str) -> str | None:
    begin, _, end = hours.partition("-")
    good = not hours or begin != end
    return None if good else f"different start and end times, not {hours}"


def _holidays(days: list[str]) -> str | None:
    wrong = next((day for day in days if not _is_date(day)), None)
    return wrong and f"dates that exist, not {wrong}"


def _mail_host(name: str) -> str | None:
    good = name.isprintable() and name.split() == [name]
    return None if good else f"the name or address of a mail server, not {name!r:.60}"


def _webhooks(webhooks: dict[str, Webhook]) -> str | None:
    """Return what was expected if a URL is not valid, or the path of a file is not absolute.

    The value is not repeated, because it may be a secret.
    """
    for name, webhook in webhooks.items():
        if webhook.url and not _is_address(webhook.url):
            return f"a host name, and a valid port if one is given, in {name}.url"
        for key in ("url_file", "secret_file"):
            path = getattr(webhook, key)
            if path and not path.startswith("/"):
                return f"the absolute path of a file as {name}.{key}, such as /etc/canhazgpu/{name}"
    return None


def _plugins(plugins: dict[str, Any]) -> str | None:
    taken = min(RESERVED_NAMES & plugins.keys(), default=None)
    return taken and f"a name other than {taken}, which is a built-in channel"


def _provider(name: str) -> str | None:
    """Return what was expected as the name of a provider. Packages are searched if it is not built in."""
    if name in BUILT_IN or name in (names := provider_names()):
        return None
    return f"one of {', '.join(map(printable, names))}, not {name!r:.60}"


def _listen(text: str) -> str | None:
    try:
        split_address(text)
    except BadAddress as bad:
        return str(bad)
    return None


def _command(command: list[str]) -> str | None:
    good = not command or command[0].startswith("/")
    return None if good else f"the absolute path of a program as the first item, not {command[0]!r:.60}"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    **dict.fromkeys(("redis.url", "fleet.url"), _redis_url),
    **{f"{section}.{name}": _absolute for section in ("redis", "fleet") for name in endpoint.FILES},
    "host": _host,
    "socket": _socket,
    "state_dir": _folder,
    "gpus.provider": _provider,
    "notify.log.path": _file,
    "notices.quiet.timezone": _timezone,
    "notices.quiet.hours": _hours,
    "notices.quiet.holidays": _holidays,
    "notices.contact": _contact,
    "notify.email.host": _mail_host,
    "notify.webhook": _webhooks,
    "notify.plugins": _plugins,
    "notify.exec.command": _command,
    "notify.email.address_command": _command,
    "exporter.listen": _listen,
    "enforcement.directory": _directory,
    "enforcement.driver_params": _file,
}


def conflicting_keys(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield keys that conflict with other settings, with what was expected."""
    expected = None if settings.redis.url else _too_long(settings.state_dir, EMBEDDED_SOCKET)
    if expected:
        yield "state_dir", expected
    if settings.fleet.url and settings.fleet.url == settings.redis.url:
        yield "fleet.url", "another Redis than in redis.url: this one has the state itself, not the copy"


def _is_address(url: str) -> bool:
    """Return whether this is a usable URL, with a valid host and port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if "[" in parts.netloc:
            ipaddress.IPv6Address(host)
        else:
            host.encode("idna")  # Raises for a name that no resolver takes.
    except ValueError:
        return False
    return bool(host) and port != 0 and url.isprintable()


def _is_date(day: str) -> bool:
    try:
        return bool(date.fromisoformat(day))
    except ValueError:
        return False


def _is_host(name: str) -> bool:
    return 0 < len(name) <= LONGEST_HOST and all(c.isascii() and (c.isalnum() or c in ".-_") for c in name)


def _is_zone(name: str) -> bool:
    try:
        return not name or bool(zoneinfo.ZoneInfo(name))
    except (ValueError, KeyError, OSError):  # No name of a file below the folder; no such file; a folder.
        return False
