"""The Python API of a running service: small, synchronous, and without dependencies.

What is not used is not imported, because commands start with it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from canhazgpu.client.connection import BadSettings, Client, Refused, Unreachable, socket_path
    from canhazgpu.client.reservations import Reservation
    from canhazgpu.client.with_reservation import reserve

__all__ = ["BadSettings", "Client", "Refused", "Reservation", "Unreachable", "reserve", "socket_path"]
MODULES = {"Reservation": "reservations", "reserve": "with_reservation"}


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
