"""`canhazgpu violations`: who used GPUs without the right to, when, and how much."""

import csv
import sys
from collections import Counter
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.words import USAGE, client, examples, fail, print_json, table
from canhazgpu.events.durations import parse_duration, spell_duration
from canhazgpu.events.text import printable

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
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # What a spreadsheet would run.
EPILOG = examples(
    "canhazgpu violations --since 30d",
    "canhazgpu violations --open",
    "canhazgpu violations --user bob --csv > bob.csv",
)


def violations(
    *,
    since: Annotated[str, typer.Option(help="How far to look back: 30m, 12h, 7d.")] = "7d",
    user: Annotated[str, typer.Option(help="Only this user's.")] = "",
    only_open: Annotated[bool, typer.Option("--open", help="Only those that last.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """List violations: use of GPUs without a reservation, oldest first."""
    try:
        parse_duration(since)
    except ValueError as error:
        fail(f"--since: {error}", USAGE)
    if as_json and as_csv:
        fail("--json and --csv exclude each other", USAGE)
    query = {"since": since, "open": int(only_open), **({"user": user} if user else {})}
    rows = client().get("/v1/violations?" + urlencode(query))
    if as_json:
        print_json(rows)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    elif rows:
        sys.stdout.write(
            table(("USER", "GPU", "SINCE", "LASTED", "PEAK", "PROCESSES"), list(map(_row, rows))) + "\n"
        )
        _sum_up(rows)
    else:
        sys.stdout.write(
            f"No violations in the last {since}.\n" if not only_open else "No open violations.\n"
        )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    lasted = "open" if row["state"] == "open" else spell_duration(row["duration_s"] or 0)
    processes = [f"{process['pid']} ({printable(process['name'])})" for process in row["processes"]]
    shown = ", ".join(processes[:3]) + (f" and {len(processes) - 3} more" if len(processes) > 3 else "")  # noqa: PLR2004
    since = f"{row['since'][:10]} {row['since'][11:19]} UTC"
    return (
        printable(row["user"]),
        str(row["gpu"]),
        since,
        lasted,
        f"{row['peak_memory_mb']}MB",
        shown or "unknown",
    )


def _sum_up(rows: list[dict[str, Any]]) -> None:
    counts = Counter(printable(row["user"]) for row in rows)
    parts = [f"{user} {count}" for user, count in counts.most_common(10)]
    sys.stdout.write(f"\n{len(rows)} in all: {', '.join(parts)}\n")


def _cell(value: object) -> str:
    text = "" if value is None else printable(str(value), 200)
    return "'" + text if text.startswith(FORMULA) else text
