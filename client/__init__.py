"""The Python API of a running service: small, synchronous, and without dependencies.

What is not used is not imported, because commands start with it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from canhazgpu.client.connection import BadSettings, Client, Refused, Unreachable, socket_path
    from canhazgpu.client.reservations import Reservation
    from canhazgpu.client.visible_gpus import Check, check
    from canhazgpu.client.with_reservation import reserve

__all__ = ["BadSettings", "Check", "Client", "Refused", "Reservation", "Unreachable"]
__all__ += ["check", "reserve", "socket_path"]
MODULES = {
    "Check": "visible_gpus",
    "Reservation": "reservations",
    "check": "visible_gpus",
    "reserve": "with_reservation",
}


def __getattr__(name: str) -> object:
    """Return a public name, from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{MODULES.get(name, 'connection')}"
    found: object = getattr(__import__(home, fromlist=[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
