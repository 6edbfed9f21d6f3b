"""`canhazgpu silence`: suppress notices about some violations for a time; they are still recorded."""

import pwd
import re
import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli import arguments
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.options import gpu_option, user_option
from canhazgpu.cli.output import client, examples, fail, print_json, table
from canhazgpu.client.reservations import post
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

app = typer.Typer(
    help="Suppress notices about some violations for a limited time.",
    no_args_is_help=False,
    epilog=examples(
        "canhazgpu silence ack --duration 1h",
        "canhazgpu silence add --gpu 2 --duration 2h --reason 'maintenance'",
        "canhazgpu silence list",
    ),
)
HEADER = ("ID", "WHAT", "LEFT", "BY", "OPEN", "REASON")


@app.callback()
def options() -> None:
    """Suppress notices about some violations for a limited time.

    The violations are still recorded.
    """


@app.command(
    "add",
    epilog=examples(
        "canhazgpu silence add --user bob --duration 2h --reason 'agreed with the group'",
        "canhazgpu silence add --gpu 2 --process python3 --duration 3d --reason 'benchmarks'",
    ),
)
def add(
    *,
    lasts: Annotated[
        str,
        typer.Option(
            "--duration",
            "-d",
            "--for",
            metavar="TIME",
            help="How long, for example 2h; at most 30d.",
            callback=arguments.non_empty,
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            "-r",
            help="The reason, shown by `silence list`.",
            metavar="TEXT",
            callback=arguments.words,
        ),
    ],
    user: Annotated[str | None, user_option("Only violations of this user.")] = None,
    gpu: Annotated[str | None, gpu_option("Only violations on this GPU.")] = None,
    process: Annotated[
        str | None,
        typer.Option(
            "--process",
            help="Only violations whose processes all have this name.",
            metavar="NAME",
            callback=arguments.name,
        ),
    ] = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Silence the violations that match all given options (administrators only)."""
    if (user, gpu, process) == (None, None, None):
        fail("specify at least one of --user, --gpu and --process", USAGE)
    card = arguments.gpu(gpu)
    body: dict[str, Any] = {
        "for": arguments.checked_duration(arguments.typed_option("--duration", "--for"), lasts),
        "reason": reason,
    }
    body |= arguments.without_none(user=user, process=process) | ({} if card is None else {"gpu": card})
    _print_silence(post(client(), "/v1/silences", body), "Silenced", as_json=as_json)
    if user is not None and not as_json and not _is_account(user):
        sys.stderr.write(
            f"Note: there is no account {printable(user)} on this host; users of containers have none\n"
        )


@app.command("ack", epilog=examples("canhazgpu silence ack --duration 1h", "canhazgpu silence ack"))
def ack(
    *,
    lasts: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            "--for",
            metavar="TIME",
            help="How long, for example 1h (default: the longest allowed time).",
            callback=arguments.non_empty,
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason",
            "-r",
            help="A short reason that other users can see.",
            metavar="TEXT",
            callback=arguments.words,
        ),
    ] = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Acknowledge your own open violations.

    You get no notices about them for the given time. Each episode can be acknowledged only once.
    """
    body = arguments.without_none(reason=reason)
    if lasts is not None:
        body["for"] = arguments.checked_duration(arguments.typed_option("--duration", "--for"), lasts)
    _print_silence(post(client(), "/v1/silences/ack", body), "Acknowledged", as_json=as_json)


@app.command("list", epilog=examples("canhazgpu silence list", "canhazgpu silence list --json"))
def list_silences(*, as_json: arguments.AsJson = False) -> None:
    """List the active silences, sorted by end time.

    `canhazgpu events --type silence` also shows silences that have ended.
    """
    rows = client().get("/v1/silences")
    if as_json:
        print_json(rows)
    elif rows:
        sys.stdout.write(table(HEADER, list(map(_row, rows))) + "\n")
    else:
        sys.stdout.write("No silences.\n")


@app.command("expire", epilog=examples("canhazgpu silence expire s1764000000000-7"))
def expire(
    silence: Annotated[
        str,
        typer.Argument(metavar="ID", help="An id from `silence list`.", autocompletion=candidates.silences),
    ],
    *,
    as_json: arguments.AsJson = False,
) -> None:
    """End a silence now.

    Users can end their own acknowledgements; administrators can end any silence.
    """
    if not re.fullmatch(r"s\d{1,19}-\d{1,19}", silence, re.ASCII):
        fail(
            f"{printable(silence)} is not the id of a silence, such as s1764000000000-7;"
            " `canhazgpu silence list` shows the ids",
            USAGE,
        )
    row = post(client(), f"/v1/silences/{silence}/expire", {})
    if as_json:
        print_json(row)
    else:
        sys.stdout.write(f"Ended the silence of {_matches(row)} ({row['id']})\n")


def _is_account(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False


def _print_silence(row: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    count = row["violations"]
    now = f"{count} open violation{'' if count == 1 else 's'} now"
    sys.stdout.write(f"{done} {_matches(row)} for {spell_length(row['left_s'])}: {now} ({row['id']})\n")


def _matches(row: dict[str, Any]) -> str:
    words = [f"user {printable(row['user'])}"] if row["user"] is not None else []
    words += [f"GPU {spell_gpu(row['gpu'])}"] if row["gpu"] is not None else []
    words += [f"process {printable(row['process'])}"] if row["process"] is not None else []
    return ", ".join(words)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    by = printable(row["by"]) + (" (ack)" if row["ack"] else "")
    left, count = spell_length(row["left_s"]), str(row["violations"])
    return (row["id"], _matches(row), left, by, count, printable(row["reason"], 100))
