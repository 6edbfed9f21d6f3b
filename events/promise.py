"""What Redis must still hold for a script of the service to work on it (service/lua/promise.lua)."""

from collections.abc import Callable

import msgspec


class Promise(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a script must find to work on the data: whose they are, their name, and so many events at least.

    What is empty is not asked for.
    """

    dataset: str = ""
    sequence: int = 0
    owner: str = ""


class Promised(bytes):
    """An argument of a script that has the promise in it; `anew` makes it of the promise as it is by now."""

    anew: Callable[[Promise | None], bytes]
