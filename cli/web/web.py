"""The command `canhazgpu web`: binds the address, and serves the page until it is stopped."""

from __future__ import annotations

import sys

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import examples, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    import typer

    from canhazgpu.cli import arguments

EPILOG = examples(
    "canhazgpu web",
    "canhazgpu web --listen 127.0.0.1:9000",
    "canhazgpu web --listen unix:/run/canhazgpu-web/web.sock",
)


def web(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            help="Address and port, or unix: and the path of a socket file (default: the web.listen"
            " setting, 127.0.0.1:8036).",
            metavar="ADDRESS",
            callback=arguments.non_empty,
        ),
    ] = None,
) -> None:
    """Show this host in a browser until SIGTERM or Ctrl-C.

    The page shows the GPUs, the queue, violations and reports. It is read-only. Any user can run this
    command. Everybody who can connect to the address can read it.
    """
    import anyio  # noqa: PLC0415 - heavy, as are the next ones

    from canhazgpu.cli.web import server  # noqa: PLC0415
    from canhazgpu.cli.web.feed import Service  # noqa: PLC0415
    from canhazgpu.cli.web.listener import listening, place_of  # noqa: PLC0415
    from canhazgpu.client.connection import socket_path  # noqa: PLC0415
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415

    try:
        settings = load().settings
    except ConfigError as error:
        fail(str(error), USAGE)
    address = listen or settings.web.listen
    service = Service(socket_path())
    with listening(address, "--listen" if listen else "web.listen") as listener:
        place = place_of(listener)

        def ready() -> None:
            sys.stdout.write(f"The page is at {place}\n")
            sys.stdout.flush()

        anyio.run(server.serve, settings, listener, service, ready)
