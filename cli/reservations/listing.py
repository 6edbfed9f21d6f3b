"""`canhazgpu reservations`: the current reservations, on this host or on all hosts of the fleet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from canhazgpu.cli.options import AllHosts
from canhazgpu.cli.output import client, examples, print_json
from canhazgpu.cli.status_lines import foreign, holder
from canhazgpu.events.spelling.gpu_ranges import spell_ranges

if TYPE_CHECKING:
    from typing import Any

EPILOG = examples(
    "canhazgpu reservations",
    "canhazgpu reservations --all",
    "canhazgpu reservations --json | jq -r '.[] | select(.until == null) | .user'",
)
SHOWN = 40  # Characters of a note; --json has all of it.


def reservations(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    every_host: AllHosts = False,
) -> None:
    """List the current reservations, oldest first.

    UNTIL is the latest time at which a reservation ends; `open` means that it has no time limit.
    """
    if every_host:
        from canhazgpu.cli.fleet.hosts import show_hosts  # noqa: PLC0415 - few are in a fleet

        show_hosts("reservations", "reservations", _table, as_json=as_json, select=list)
        return
    rows = client().get("/v1/reservations")
    if as_json:
        print_json(rows)
    elif rows:
        sys.stdout.write(_table(rows))
    else:
        sys.stdout.write("Nothing is reserved.\n")


def _table(rows: list[dict[str, Any]]) -> str:
    from canhazgpu.cli.display.gpu_table import moment  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415
    from canhazgpu.cli.display.terminal import columns  # noqa: PLC0415

    shown = [
        Column("ID", [foreign(row["id"]) for row in rows], drop=2),
        Column("USER", [holder(row) for row in rows], least=8),
        Column("GPUS", [spell_ranges(row["gpus"]) for row in rows]),
        Column("KIND", [foreign(row["kind"]) for row in rows], drop=3),
        Column("SINCE", [moment(row["started"]) for row in rows], drop=4),
        Column("UNTIL", [moment(row["until"]) if row["until"] else "open" for row in rows]),
        Column(
            "NOTE", [foreign(row["note"], SHOWN) if row["note"] else "-" for row in rows], least=8, drop=1
        ),
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns(sys.stdout)))
