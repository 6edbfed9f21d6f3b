"""`canhazgpu doctor`: checks of the event streams, their memory and their consumer groups."""

from collections.abc import Iterator
from typing import Any

from canhazgpu.cli.doctor.service_health import health
from canhazgpu.client import Refused, Unreachable
from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.keys import Keys

Finding = tuple[str, str, str]
MIB = 2**20
NEARLY = 0.8  # Fraction of the memory limit above which to warn.


def streams(settings: Settings) -> Iterator[Finding]:
    """Check the memory of the streams, and that consumer groups are being read."""
    try:
        found = health(settings.socket)["streams"]
    except (Unreachable, Refused) as error:
        yield "skip", "their contents cannot be checked", error.remedy
        return
    if found is None:
        yield "warn", "their size is not known yet", "run doctor again in a minute"
        return
    yield _memory(found)
    for group in found["groups"]:
        if group["abandoned"]:
            yield _abandoned(group, Keys(settings.host).streams[group["stream"]])


def _memory(found: dict[str, Any]) -> Finding:
    entries = ", ".join(f"{one['stream']} {one['entries']}" for one in found["streams"])
    used, limit = found["bytes"], found["limit_bytes"]
    text = f"{used / MIB:.1f} MiB of {limit / MIB:.0f} MiB; entries: {entries}"
    if used > NEARLY * limit:
        return "warn", text, "raise streams.memory_mb, or read the groups that are behind"
    return "ok", text, ""


def _abandoned(group: dict[str, Any], key: str) -> Finding:
    why = f"it was last read at {group['read']}"
    if group["abandoned"] == "memory":
        why = "the streams would exceed streams.memory_mb"
    gone = f", and {group['missing']} unread ones were removed" if group["missing"] else ""
    name, count = group["group"], group["behind"]
    behind = "1 entry" if count == 1 else f"{count} entries"
    return (
        "warn",
        f"the group {name} on {group['stream']} is abandoned: {why}; it is {behind} behind{gone}",
        f"resume reading it, or remove it: XGROUP DESTROY '{key}' '{name}'",
    )
