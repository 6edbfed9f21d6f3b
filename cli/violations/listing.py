"""`canhazgpu violations`: list who used GPUs without the right to, when, how much, and whether they know."""

import csv
import re
import sys
import time
from collections import defaultdict
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from canhazgpu.cli.arguments import filters, non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import as_utc, local
from canhazgpu.cli.options import TIMES, gpu_option, time_option, user_option
from canhazgpu.cli.output import client, csv_cell, examples, fail, own_name, print_json
from canhazgpu.cli.violations.timeline import head, moments
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

COLUMNS = (
    "violation",
    "state",
    "kind",
    "user",
    "gpu",
    "since",
    "closed",
    "duration_s",
    "peak_memory_mb",
    "reason",
    "evidence",
    "told",
    "reached_at",
)
HEADER = ("VIOLATION", "USER", "GPU", "KIND", "SINCE", "LASTED", "PEAK GIB", "NOTIFIED", "PROCESSES")
DROP = {
    "PROCESSES": 1,
    "PEAK GIB": 2,
    "NOTIFIED": 3,
    "LASTED": 4,
    "KIND": 5,
}  # On a narrow terminal, in this order.
LEAST = {"USER": 8, "PROCESSES": 16}
ID = re.compile(r"v[0-9]{1,19}(-[0-9]{0,19})?")  # Or the start of one.
SUCH = "such as v1764061802123-17 or its beginning"
MOST_ROWS = 10_000  # The service sends no more.
NAMED = 10  # Users listed in the last line; the rest are counted.
EPILOG = examples(
    "canhazgpu violations --mine --since 30d",
    "canhazgpu violations --open --gpu 3",
    "canhazgpu violations --unreached --since 2026-11-01 --until 2026-12-01",
    "canhazgpu violations --user bob --csv > bob.csv",
    "canhazgpu violations --all",
    "canhazgpu violations show v17640618",
)
app = typer.Typer(
    help="List GPU use without a valid reservation, or show one violation.",
    epilog=EPILOG,
    rich_markup_mode=None,
)


def _kinds(incomplete: str) -> list[str]:
    from canhazgpu.events.contract.values import VIOLATION_KINDS  # noqa: PLC0415 - for completion alone

    return [kind for kind in VIOLATION_KINDS if kind.startswith(incomplete)]


@app.callback(invoke_without_command=True)
def violations(
    context: typer.Context,
    *,
    user: Annotated[str | None, user_option("Only violations of this user.")] = None,
    gpu: Annotated[str | None, gpu_option("Only violations on this GPU.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only violations of this kind: unreserved, trespass or overstaying.",
            metavar="KIND",
            callback=non_empty,
            autocompletion=_kinds,
        ),
    ] = None,
    since: Annotated[str | None, time_option(f"Start, in local time: {TIMES} (default: 7d).")] = None,
    until: Annotated[str | None, time_option("End, in the same formats; a date means 00:00.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own violations.")] = False,
    only_open: Annotated[bool, typer.Option("--open", help="Only open violations.")] = False,
    unreached: Annotated[
        bool, typer.Option("--unreached", help="Only violations whose user could not be notified.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    every_host: Annotated[
        bool, typer.Option("--all", help="All hosts of the fleet; only open violations.")
    ] = False,
) -> None:
    """List GPU use without a valid reservation, oldest first."""
    if mine and user is not None:
        fail("--user and --mine cannot be used together", USAGE)
    words = {
        "user": own_name() if mine else user,
        "gpu": gpu,
        "kind": kind,
        "since": since and as_utc(since),
        "until": until and as_utc(until),
        "open": "1" if only_open else None,
        "unreached": "1" if unreached else None,
    }
    if context.invoked_subcommand is not None:
        if any(words.values()) or as_json or as_csv:
            fail("put the options after the command", USAGE)
        return
    said = filters(words)
    if every_host:
        _show_hosts(said, as_json=as_json, as_csv=as_csv)
        return
    if as_json and as_csv:
        fail("--json and --csv cannot be used together", USAGE)
    rows = client().get("/v1/violations?" + urlencode(said))
    if len(rows) >= MOST_ROWS:
        sys.stderr.write(f"Only the newest {MOST_ROWS} are shown; use --since and --until to see others.\n")
    if as_json:
        print_json(rows)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([csv_cell(row[name]) for name in COLUMNS] for row in rows)
    elif rows:
        sys.stdout.write(f"{_table(list(map(_row, rows)))}\n{_sum_up(rows)}\n")
    else:
        sys.stdout.write(_none(said))


@app.command(
    "show",
    epilog=examples("canhazgpu violations show v1764061802123-17", "canhazgpu violations show v17640618"),
)
def show(
    violation: Annotated[
        str,
        typer.Argument(
            help="The id, or the start of it.", metavar="ID", autocompletion=candidates.violations
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one violation: its details, its history and its notices."""
    found = find(violation)
    if as_json:
        print_json(found)
        return
    sys.stdout.write(f"{head(found['violation'])}\n\n{moments(found['moments'])}\n")
    if found["left_out"]:
        sys.stdout.write(f"\n{found['left_out']} entries in the middle are not shown.\n")


def find(text: str) -> dict[str, Any]:
    """Return one violation and its history, by its id or the start of it."""
    if not ID.fullmatch(text):
        named = printable(text) or "''"
        fail(f"{named} is not the id of a violation, {SUCH}; `canhazgpu violations` shows the ids", USAGE)
    found: dict[str, Any] = client().get("/v1/violations/" + quote(text, safe=""))
    return found


def _show_hosts(said: dict[str, str], *, as_json: bool, as_csv: bool) -> None:
    """Show the open violations of all hosts, by host."""
    from canhazgpu.cli.fleet.hosts import show_hosts  # noqa: PLC0415 - few are in a fleet

    if as_csv or said.keys() - {"user", "kind", "open"}:
        fail("with --all, use only --user, --mine, --kind, --open and --json", USAGE)
    wanted = {name: said[name] for name in ("user", "kind") if name in said}

    def fitting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if all(row[name] == word for name, word in wanted.items())]

    show_hosts(
        "violations",
        "violations",
        lambda rows: _table(list(map(_row, rows))),
        as_json=as_json,
        select=fitting,
    )


def _table(rows: list[tuple[str, ...]]) -> str:
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.terminal import columns_of_terminal  # noqa: PLC0415

    shown = [
        Column(title, cells, least=LEAST.get(title, 0), drop=DROP.get(title, 0))
        for title, cells in zip(HEADER, zip(*rows, strict=True), strict=True)
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns_of_terminal(sys.stdout)))


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    from canhazgpu.cli.display.gpu_table import gib  # noqa: PLC0415 - JSON does not need it

    lasted = "open" if row["state"] == "open" else spell_length(row["duration_s"] or 0)
    processes = [f"{process['pid']} ({printable(process['name'])})" for process in row["processes"]]
    shown = ", ".join(processes[:3]) + (f" and {len(processes) - 3} more" if len(processes) > 3 else "")  # noqa: PLR2004
    return (
        printable(row["violation"]),
        printable(row["user"]),
        spell_gpu(row["gpu"]),
        printable(row["kind"]),
        local(row["since"]),
        lasted,
        gib(row["peak_memory_mb"]),
        row["told"] or "-",
        shown or "unknown",
    )


def _sum_up(rows: list[dict[str, Any]]) -> str:
    """Return the number and total duration of violations, overall and for each user, the most first."""
    counts: dict[str, int] = defaultdict(int)
    hours: dict[str, float] = defaultdict(float)
    for row in rows:
        user = printable(row["user"])
        counts[user] += 1
        hours[user] += _hours(row)
    ordered = sorted(counts, key=lambda user: (-counts[user], -hours[user], user))
    parts = [f"{user} {counts[user]} ({hours[user]:.1f} h)" for user in ordered[:NAMED]]
    others = len(ordered) - NAMED
    more = f" and {others} more" if others > 0 else ""
    return f"{len(rows)} in all ({sum(hours.values()):.1f} h): {', '.join(parts)}{more}"


def _hours(row: dict[str, Any]) -> float:
    if row["state"] == "closed":
        return float(row["duration_s"] or 0) / 3600
    from canhazgpu.events.timestamps import ms_of  # noqa: PLC0415 - only where something is open

    return max(0.0, time.time() - ms_of(row["since"]) / 1000) / 3600


def _none(said: dict[str, str]) -> str:
    if said.keys() <= {"since"}:
        since = said.get("since", "7d")
        return f"No violations {f'since {local(since)}' if since[4:5] == '-' else f'in the last {since}'}.\n"
    return "No open violations.\n" if said.keys() <= {"since", "open"} else "No such violations.\n"
