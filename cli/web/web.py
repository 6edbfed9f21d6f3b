"""The command `canhazgpu web`: binds the address, and serves the page until it is stopped."""

from __future__ import annotations

import sys

from canhazgpu.cli.exit_codes import REFUSED, USAGE
from canhazgpu.cli.output import examples, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Annotated

    import typer

    from canhazgpu.cli import arguments

EPILOG = examples("canhazgpu web", "canhazgpu web --listen 127.0.0.1:9000")
MOST_PORTS = 65535
BACKLOG = 512


def web(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            help="Address and port (default: 127.0.0.1:8036, or as the settings say).",
            metavar="HOST:PORT",
            callback=arguments.non_empty,
        ),
    ] = None,
) -> None:
    """Show this host in a browser until SIGTERM or Ctrl-C.

    The page has the GPUs, the queue, violations and reports, and changes nothing. Any user can run it.
    Everybody who can connect to the address can read it.
    """
    import anyio  # noqa: PLC0415 - heavy, as are the next ones

    from canhazgpu.cli.web import server  # noqa: PLC0415
    from canhazgpu.cli.web.feed import Service  # noqa: PLC0415
    from canhazgpu.client.connection import socket_path  # noqa: PLC0415
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415

    try:
        settings = load().settings.web
    except ConfigError as error:
        fail(str(error), USAGE)
    address = listen or settings.listen
    listener = _bound(address, "--listen" if listen else "web.listen")
    service = Service(socket_path())
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host

    def ready() -> None:
        sys.stdout.write(f"The page is at http://{shown}:{port}/\n")
        sys.stdout.flush()

    anyio.run(server.serve, settings, listener, service, ready)


def _bound(address: str, name: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT."""
    import socket  # noqa: PLC0415 - slow to load

    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > MOST_PORTS:
        fail(f"{name}: '{address:.80}' is not an address and a port, such as 127.0.0.1:8036", USAGE)
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, _, _, _, where = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        fail(f"cannot listen on {address:.80}: {error.strerror}; choose another port", REFUSED)
    return listener
