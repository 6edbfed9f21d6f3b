"""The address and the port on which a server listens, as settings and options have them."""

import ipaddress

LAST_PORT = 65535


class BadAddress(ValueError):
    """It is not an address and a port; the message says what was expected."""


def split_address(text: str) -> tuple[str, int]:
    """Return the host and the port of `127.0.0.1:9836` or `[::1]:9836`. Raises BadAddress."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) <= LAST_PORT):
        raise BadAddress(f"an address and a port such as 127.0.0.1:9836, not {text!r:.60}")
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        return host[1:-1], int(port)
    if not host or ":" in host or "[" in host or not host.isascii():
        raise BadAddress(f"an address such as 127.0.0.1 or [::1] before the port, not {text!r:.60}")
    return host, int(port)


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False
