"""`canhazgpu who`: who holds and uses how much now."""

import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli.output import client, examples, print_json
from canhazgpu.cli.status_lines import foreign
from canhazgpu.events.spelling.gpu_ranges import spell_ranges

EPILOG = examples("canhazgpu who", "canhazgpu who --json | jq -r '.[] | select(.waiting > 0) | .user'")
NOTHING = "-"


def who(*, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> None:
    """List the users who hold, use or wait for GPUs now.

    UNRESERVED counts the GPUs that a user uses without a reservation.
    """
    rows = client().get("/v1/users")
    if as_json:
        print_json(rows)
    elif rows:
        sys.stdout.write(_table(rows))
    else:
        sys.stdout.write("Nobody holds, uses or waits for a GPU.\n")


def _table(rows: list[dict[str, Any]]) -> str:
    from canhazgpu.cli.display.gpu_table import gib, moment  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415
    from canhazgpu.cli.display.terminal import columns  # noqa: PLC0415

    shown = [
        Column("USER", [foreign(row["user"]) for row in rows], least=8),
        Column("GPUS", [spell_ranges(row["gpus"]) or NOTHING for row in rows]),
        Column("SINCE", [moment(row["since"]) for row in rows], drop=2),
        Column("UNTIL", [_until(row, moment(row["until"])) for row in rows], drop=3),
        Column("GIB", [gib(row["memory_mb"]) for row in rows], right=True),
        Column("PROCESSES", [str(row["processes"] or NOTHING) for row in rows], drop=1, right=True),
        Column("UNRESERVED", [spell_ranges(row["unreserved"]) or NOTHING for row in rows]),
        Column("WAITING", [_waiting(row) for row in rows], drop=4),
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns(sys.stdout)))


def _until(row: dict[str, Any], until: str) -> str:
    return "open" if row["gpus"] and row["until"] is None else until


def _waiting(row: dict[str, Any]) -> str:
    if not row["waiting"]:
        return NOTHING
    return f"{row['waiting']} for {row['waiting_gpus']} GPU{'' if row['waiting_gpus'] == 1 else 's'}"
