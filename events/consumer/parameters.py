"""Checks what a consumer is given, before anything is read. A ValueError says in one line what is wrong."""

import re
from collections.abc import Sequence

from canhazgpu.events.notices import CHANNELS
from canhazgpu.events.redis_client.endpoint import BadUrl, Endpoint, check
from canhazgpu.events.redis_client.keys import GROUP_DISPATCHER, GROUP_FLEET, GROUP_LOG

STREAM_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
GREATEST = 2**64 - 1  # Of each number in an id; Redis refuses greater ones.
LONGEST = 200  # Characters of a name.
# Groups of the service and its workers. A member of a foreign program would take their entries away.
OWN_GROUPS = frozenset({GROUP_DISPATCHER, GROUP_FLEET, GROUP_LOG})


def check_place(after: str | None) -> None:
    """Raise ValueError if `after` is not the id of an entry."""
    if after is None:
        return
    found = STREAM_ID.fullmatch(after)
    if not found or any(int(number) > GREATEST for number in found.groups(default="0")):
        raise ValueError(f"after: {after[:LONGEST]!r} is not a stream_id: use 1795600000000-17, or 0 for all")


def check_name(what: str, name: str) -> None:
    """Raise ValueError if a name is empty, too long, or cannot be shown on one line."""
    if not name:
        raise ValueError(f"{what}: the name is empty")
    if len(name) > LONGEST:
        raise ValueError(f"{what}: the name has {len(name)} characters; the limit is {LONGEST}")
    if not name.isprintable():
        raise ValueError(f"{what}: {name!r} has a character that cannot be printed")


def check_group(group: str, stream: str) -> None:
    """Raise ValueError if a group cannot have this name, or if it is one of the service's own."""
    check_name("group", group)
    if is_own(group, stream):
        raise ValueError(f"group: the service itself uses the name {group!r}: choose another")


def is_own(group: str, stream: str) -> bool:
    """Return whether a group is one of the service's own, except for channels from other packages."""
    channel = group in CHANNELS or group.startswith("webhook:")
    return group in OWN_GROUPS or (stream == "notices" and channel)


def check_counts(**counts: int) -> None:
    """Raise ValueError if one of these numbers is less than 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: {count} is out of range: use 1 or more")


def check_source(where: str | Endpoint, host: str, types: Sequence[str]) -> None:
    """Raise ValueError if the URL, the name of the host or the types cannot be right.

    A type that this version does not know is no error, because a later service may have it.
    """
    try:
        check(where if isinstance(where, str) else where.url)
    except BadUrl as bad:
        raise ValueError(f"the URL of Redis: expected {bad}") from None
    check_name("host", host)
    if isinstance(types, str):
        text = f"types: {types[:LONGEST]!r} is one text: use a list, such as ['violation']"
        raise ValueError(text)  # noqa: TRY004 - one kind of error
