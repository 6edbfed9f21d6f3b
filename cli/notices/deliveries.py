"""`canhazgpu deliveries` and `canhazgpu deadletters`: which notices were delivered, and which failed."""

import re
import sys
from typing import Annotated

import typer

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import client, examples, fail, print_json, table
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable

EPILOG = examples("canhazgpu deliveries --since 1d", "canhazgpu deliveries --json")
deadletters = typer.Typer(
    help="Show and retry undelivered notices (administrators only).",
    no_args_is_help=False,
    epilog=examples("canhazgpu deadletters list", "canhazgpu deadletters replay 1764000000000-0"),
)


def deliveries(
    *,
    since: Annotated[str, typer.Option(help="How far to look back, for example 30m, 12h or 7d.")] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the attempts to deliver notices.

    Each line shows the channel, the recipient and the outcome.
    """
    try:
        parse_duration(since)
    except ValueError as error:
        fail(f"--since: {error}", USAGE)
    rows = client().get(f"/v1/deliveries?since={since}")
    if as_json:
        print_json(rows)
        return
    names = ("time", "channel", "recipient", "outcome", "attempt", "notice", "detail")
    cells = [[printable(str(row[name]), 100) for name in names] for row in rows]
    sys.stdout.write((table([name.upper() for name in names], cells) if cells else "No deliveries.") + "\n")


@deadletters.command("list", epilog=examples("canhazgpu deadletters list --json"))
def list_letters(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False
) -> None:
    """List the notices that could not be delivered, oldest first."""
    rows = client().get("/v1/deadletters")
    if as_json:
        print_json(rows)
        return
    names = ("id", "time", "channel", "recipient", "reason")
    cells = [[printable(str(row[name]), 100) for name in names] for row in rows]
    sys.stdout.write((table([name.upper() for name in names], cells) if cells else "No dead letters.") + "\n")


@deadletters.command("replay", epilog=examples("canhazgpu deadletters replay 1764000000000-0"))
def replay(letter: Annotated[str, typer.Argument(help="An id from `deadletters list`.")]) -> None:
    """Try to deliver a dead letter again."""
    if not re.fullmatch("[0-9]{1,19}(-[0-9]{1,19})?", letter):
        fail(
            f"{printable(letter)} is not the id of a dead letter; `canhazgpu deadletters list` shows the ids",
            USAGE,
        )
    client().post(f"/v1/deadletters/{letter}/replay")
    sys.stdout.write(f"Dead letter {letter} will be delivered again.\n")
