"""The arguments and replies of the allocator's scripts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

ACKNOWLEDGED = frozenset({"granted", "released", "extended", "done"})
Acknowledge = Callable[[Mapping[str, Any]], Awaitable[bool]]


async def skip_journal(_: Mapping[str, Any]) -> bool:
    """Accept a reply without writing it to the journal."""
    return True


def encode_request(
    request: dict[str, Any], gpus: Sequence[int] | None, uuids: Mapping[int, str] | None = None
) -> bytes:
    """Return a request as JSON, with the GPUs that it names; `uuids` are of those that it names by UUID."""
    given = {} if gpus is None else {"gpus": list(gpus)}
    return msgspec.json.encode({**request, **given, **({"uuids": dict(uuids)} if uuids else {})})


_LISTS = (
    "granted",
    "blocked",
    "missing",
    "released",
    "expired",
    "extended",
    "changed",
    "held",
    "left",
    "disowned",
    "cancelled",
    "users",
)


def decode_lists(reply: dict[str, Any]) -> dict[str, Any]:
    """Convert `{}` to empty lists, because Redis' JSON library writes empty lists that way."""
    return {name: [] if name in _LISTS and value == {} else value for name, value in reply.items()}
