"""Who reads the page, and in which time zone. Neither decides what may be seen: everybody sees the same."""

import ipaddress
from datetime import tzinfo

from msgspec import Struct
from starlette.requests import Request

from canhazgpu.cli.web.spelling import zone_of
from canhazgpu.events.sanitize import printable

LONGEST_ZONE = 64


class Viewer(Struct, frozen=True, kw_only=True):
    """The reader: `user` as a trusted proxy names them, None if nobody does."""

    user: str | None
    zone_name: str
    zone: tzinfo | None
    only_mine: bool


def viewer_of(request: Request, header: str) -> Viewer:
    """Return the reader of a request; `header` is the one that names the user, empty if none does."""
    user = request.headers.get(header) if header and is_local(request) else None
    name = request.cookies.get("zone", "")[:LONGEST_ZONE]
    zone = zone_of(name)
    return Viewer(
        user=printable(user) if user else None,
        zone_name=name if zone else "UTC",
        zone=zone,
        only_mine=bool(user) and request.query_params.get("mine") == "1",
    )


def is_local(request: Request) -> bool:
    """Return whether the connection comes from this host, as that of a proxy in front of it does."""
    return request.client is None or is_loopback(request.client.host)


def is_loopback(address: str) -> bool:
    """Return whether an address is one of this host that others cannot reach."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
