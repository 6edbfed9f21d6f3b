"""`canhazgpu queue`: show who is waiting for GPUs, for what, and the expected start."""

from __future__ import annotations

import sys

from canhazgpu.cli.display.booking_table import ask_for_bookings, bookings_below
from canhazgpu.cli.output import client, examples, print_json
from canhazgpu.cli.status_lines import foreign, holder
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import LONGEST_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated, Any

    import typer

    from canhazgpu.cli import arguments

EPILOG = examples("canhazgpu queue", "canhazgpu queue --json | jq -r '.[] | .user'", "canhazgpu queue --all")
HEADER = ("POSITION", "ID", "USER", "GPUS", "WAITING", "EXPECTED", "NOTE", "FOR")
DROP = {"NOTE": 1, "FOR": 2, "WAITING": 3, "EXPECTED": 4}  # On a narrow terminal, in this order.
LEAST = {"USER": 8, "NOTE": 8, "FOR": 16}

SHOWN = 40  # Characters of a note; --json has all of it.


def queue(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    every_host: arguments.AllHosts = False,
) -> None:
    """List the waiting requests for GPUs, in the order of the queue.

    Below them are the bookings of the next 24 hours: nobody who waits gets GPUs that are promised to them.
    """
    if every_host:
        from canhazgpu.cli.fleet.hosts import show_hosts  # noqa: PLC0415 - few are in a fleet

        show_hosts("queue", "queue", _text, as_json=as_json, select=list)
        return
    asked = client()
    rows = asked.get("/v1/queue")
    if as_json:
        print_json(rows)
        return
    sys.stdout.write(_text(rows) if rows else "The queue is empty.\n")
    if booked := ask_for_bookings(asked):
        from canhazgpu.cli.display.terminal import columns_of_terminal  # noqa: PLC0415 - slow to import

        sys.stdout.write(bookings_below(booked, columns_of_terminal(sys.stdout)))


def _text(rows: list[dict[str, Any]]) -> str:
    return _table([row(one) for one in rows])


def _table(rows: list[tuple[str, ...]]) -> str:
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.terminal import columns_of_terminal  # noqa: PLC0415

    shown = [
        Column(title, cells, least=LEAST.get(title, 0), drop=DROP.get(title, 0))
        for title, cells in zip(HEADER, zip(*rows, strict=True), strict=True)
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns_of_terminal(sys.stdout)))


def row(request: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a request in the queue."""
    from canhazgpu.cli.local_times import MINUTES, local  # noqa: PLC0415 - slow to import
    from canhazgpu.events.spelling.gpu_counts import spell_request  # noqa: PLC0415

    expected = local(request["expected"], MINUTES) if request["expected"] else "unknown"
    return (
        str(request["position"]),
        request["id"],
        holder(request),
        foreign(spell_request(request)),
        spell_length(request["waiting_s"]),
        expected,
        foreign(request["note"], SHOWN) if request["note"] else "-",
        foreign(request["reason"], LONGEST_WORDS),
    )
