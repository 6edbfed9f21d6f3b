"""What the service says of itself, asked once a command: one that is stopped is given up slowly."""

from functools import cache
from typing import Any

from canhazgpu.client import Client, Refused, Unreachable


def health(socket: str) -> dict[str, Any]:
    """Return the answer of /v1/health. Raises Unreachable and Refused."""
    found = _asked(socket)
    if isinstance(found, Exception):
        raise found
    return found


@cache
def _asked(socket: str) -> dict[str, Any] | Unreachable | Refused:
    try:
        return dict(Client(socket).get("/v1/health"))
    except (Unreachable, Refused) as error:
        return error
