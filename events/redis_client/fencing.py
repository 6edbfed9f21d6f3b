"""The data that a script of the service requires Redis to have (service/lua/fencing.lua)."""

from collections.abc import Callable

import msgspec


class FencingToken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conditions for a script to work on the data: the owner, the data's name, the last event number.

    Empty values are not checked.
    """

    dataset: str = ""
    sequence: int = 0
    owner: str = ""


class FencedArgument(bytes):
    """A script argument that contains a fencing token; `rebuild` makes it anew from the current token."""

    rebuild: Callable[[FencingToken | None], bytes]
