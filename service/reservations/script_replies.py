"""The arguments and replies of the allocator's scripts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from canhazgpu.events.reservations import Record

ACKNOWLEDGED = frozenset({"granted", "released", "extended", "done"})
Acknowledge = Callable[[Mapping[str, Any]], Awaitable[bool]]


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that is not available: why, and who uses it; for errors also the reason and the remedy."""

    gpu: int
    why: str = "held"
    by: str | None = None
    users: tuple[str, ...] | None = None
    kind: str | None = None
    another_login: bool = False  # The caller's uid, but another user's `sudo`.
    reason: str | None = None
    remedy: str | None = None


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a request. `code` is granted, queued, refused, limit, never or gone.

    `cards`: the UUID of the GPU at each index, as of this result. `counts` has the number of GPUs by their
    state for this user: available, held, in_use, claimed, drained, error, unknown, unmanaged.
    """

    code: str
    id: str = ""
    reservation: Record | None = None
    cards: dict[str, str] = {}
    counts: dict[str, int] = {}
    blocked: tuple[Blocked, ...] = ()
    troubles: tuple[Blocked, ...] = ()  # All GPUs in error or unknown; only 0 if no GPU is known.
    missing: tuple[int, ...] = ()
    managed: int = 0
    limit: int | None = None
    need: int = 0
    held: int = 0  # With the code limit: how many GPUs the user holds on this host.
    divided: tuple[str, ...] = ()  # With the code never: the profiles of the host's MIG instances.
    until_ms: int | None = None  # It could have been granted with an end that is not later.


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
    "begun",
)


def decode_lists(reply: dict[str, Any]) -> dict[str, Any]:
    """Convert `{}` to empty lists, because Redis' JSON library writes empty lists that way."""
    return {name: [] if name in _LISTS and value == {} else value for name, value in reply.items()}
