"""`canhazgpu deliveries` and `canhazgpu deadletters`: which notices were delivered, and which failed."""

import re
import sys
import time
from typing import Annotated, Any

import typer

from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import as_utc, local
from canhazgpu.cli.output import client, examples, fail, print_json, table
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import ms_of

EPILOG = examples("canhazgpu deliveries --since 1d", "canhazgpu deliveries --json")
deadletters = typer.Typer(
    help="Show and retry undelivered notices (administrators only).",
    no_args_is_help=False,
    epilog=examples("canhazgpu deadletters list", "canhazgpu deadletters replay 1764000000000-0"),
)


def deliveries(
    *,
    since: Annotated[
        str,
        typer.Option(help="Start, in local time: 12h, 7d, 10:00, yesterday or 2026-11-25.", metavar="TIME"),
    ] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List the attempts to deliver notices.

    Each line shows the channel, the recipient and the outcome.
    """
    rows = client().get(f"/v1/deliveries?since={_age(since)}")
    if as_json:
        print_json(rows)
        return
    names = ("time", "channel", "recipient", "outcome", "attempt", "notice", "detail")
    sys.stdout.write((_table(names, rows) if rows else "No deliveries.") + "\n")


def _age(since: str) -> str:
    """Return how far to look back: the duration as it was written, or the seconds since a time."""
    moment = as_utc(since)
    try:
        if moment[4:5] == "-":
            return f"{max(0.0, time.time() - ms_of(moment) / 1000):.0f}s"
        parse_duration(since)
    except ValueError as error:
        fail(f"--since: {error}, or a time such as 10:00, yesterday or 2026-11-25", USAGE)
    return since


def _table(names: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    def cell(name: str, value: object) -> str:
        return local(str(value)) if name == "time" else printable(str(value), 100)

    return table(
        [name.upper() for name in names], [[cell(name, row[name]) for name in names] for row in rows]
    )


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
    sys.stdout.write((_table(names, rows) if rows else "No dead letters.") + "\n")


@deadletters.command("replay", epilog=examples("canhazgpu deadletters replay 1764000000000-0"))
def replay(
    letter: Annotated[
        str,
        typer.Argument(
            help="An id from `deadletters list`.", metavar="ID", autocompletion=candidates.letters
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try to deliver a dead letter again."""
    if not re.fullmatch("[0-9]{1,19}(-[0-9]{1,19})?", letter):
        fail(
            f"{printable(letter)} is not the id of a dead letter, such as 1764000000000-0;"
            " `canhazgpu deadletters list` shows the ids",
            USAGE,
        )
    reply = client().post(f"/v1/deadletters/{letter}/replay")
    if as_json:
        print_json(reply)
        return
    sys.stdout.write(f"Dead letter {letter} will be delivered again.\n")
