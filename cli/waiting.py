"""`canhazgpu queue`: who waits for GPUs, for what, and until when."""

import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli.render import holder
from canhazgpu.cli.words import client, examples, print_json, table
from canhazgpu.events.durations import spell_duration
from canhazgpu.events.text import printable

EPILOG = examples("canhazgpu queue", "canhazgpu queue --json | jq -r '.[] | .user'")
HEADER = ("POSITION", "USER", "GPUS", "WAITING", "EXPECTED", "FOR")


def queue(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False
) -> None:
    """List who waits, in the order in which they are served; a newcomer never passes."""
    rows = client().get("/v1/queue")
    if as_json:
        print_json(rows)
    elif rows:
        sys.stdout.write(table(HEADER, [_row(row) for row in rows]) + "\n")
    else:
        sys.stdout.write("Nobody waits.\n")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    wanted = ",".join(map(str, row["gpus"])) if row["gpus"] else str(row["count"])
    expected = f"{row['expected'][:10]} {row['expected'][11:16]} UTC" if row["expected"] else "unknown"
    return (
        str(row["position"]),
        holder(row),
        f"GPU {wanted}" if row["gpus"] else wanted,
        spell_duration(row["waiting_s"]),
        expected,
        printable(row["reason"], 200) + (f" [{printable(row['note'], 200)}]" if row["note"] else ""),
    )
