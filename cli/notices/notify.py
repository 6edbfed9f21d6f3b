"""`canhazgpu notify`: test the channels and preview the notices."""

import re
import sys
import time
from typing import Annotated, Any

import typer

from canhazgpu.cli import arguments
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import REFUSED, USAGE, CommandEnded
from canhazgpu.cli.notices import preview
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.events.sanitize import printable

CHANNEL = re.compile(r"[a-z][a-z0-9_-]{0,63}(:[a-z0-9_-]{1,64})?")
PATIENCE = 20.0
REACHED = ("delivered", "unproven")
app = typer.Typer(
    help="Test channels and preview notices.",
    no_args_is_help=False,
    epilog=examples("canhazgpu notify test --channel wall", "canhazgpu notify preview --list"),
)
app.command("preview", epilog=preview.EPILOG)(preview.preview)


@app.command(
    "test",
    epilog=examples(
        "canhazgpu notify test --channel wall",
        "canhazgpu notify test --channel email --to bob@example.com",
        "canhazgpu notify test --channel webhook:chat",
    ),
)
def send_test(
    *,
    channel: Annotated[
        str,
        typer.Option(
            help="wall, email, log, exec, webhook:NAME, or the name of a plugin.",
            metavar="CHANNEL",
            autocompletion=candidates.channels,
        ),
    ] = "wall",
    to: Annotated[
        str | None,
        typer.Option(
            help="A user or an email address (default: you).", metavar="USER", callback=arguments.words
        ),
    ] = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Send a test message through one channel and report the outcome."""
    if not CHANNEL.fullmatch(channel):
        fail(
            f"--channel: expected a channel such as wall, email or webhook:NAME, not {printable(channel)}",
            USAGE,
        )
    service = client()
    notice = service.post("/v1/notices/test", {"channel": channel, "to": to})["notice"]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        rows = service.get(f"/v1/deliveries?since=1h&notice={notice}")
        if rows:
            _report(rows, as_json=as_json)
            return
        time.sleep(0.1)
    fail(f"no worker delivered the message within {PATIENCE:g} s; check that one is running", REFUSED)


def _report(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    for row in () if as_json else rows:
        detail = f" ({printable(row['detail'], 200)})" if row["detail"] else ""
        sys.stdout.write(f"{row['channel']} to {printable(row['recipient'])}: {row['outcome']}{detail}\n")
    if not any(row["outcome"] in REACHED for row in rows):
        raise CommandEnded(REFUSED)


@app.callback()
def options() -> None:
    """Test channels and preview notices."""
