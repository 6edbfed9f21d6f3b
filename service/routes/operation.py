"""One method of one path of the API as data, and what many of them share."""

from typing import Any

from msgspec import Struct

TEXT = {"type": "string"}
FLAG = {"enum": ["0", "1"]}


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path. `reply` is the type of the response, or None for JSON lines."""

    method: str
    path: str
    about: str
    reply: Any
    code: int = 200
    body: type[Struct] | None = None
    query: dict[str, tuple[dict[str, Any], str]] = {}
    problems: tuple[int, ...] = ()


SINCE: dict[str, tuple[dict[str, Any], str]] = {"since": (TEXT, "How far to look back: 30m, 7d.")}
READS = (400, 503)
WRITES = (400, 403, 408, 409, 413, 429, 503)
