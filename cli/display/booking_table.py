"""The bookings of the next 24 hours, below what other commands show."""

from __future__ import annotations

from canhazgpu.cli.status_lines import foreign, holder
from canhazgpu.client.connection import WARNED, Client
from canhazgpu.events.sanitize import LONGEST_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

SOON_S = 86_400
TITLE = "Bookings of the next 24 hours"


def soon(rows: Iterable[dict[str, Any]], user: str | None = None) -> list[dict[str, Any]]:
    """Return the bookings that begin in the next 24 hours or are late: of a user, or all."""
    return [row for row in rows if row["begins_in_s"] <= SOON_S and user in (None, row["user"])]


def ask_for_bookings(client: Client, user: str | None = None) -> list[dict[str, Any]]:
    """Return the bookings of the next 24 hours. What the answer warns of was already said with another."""
    said, WARNED[:] = WARNED[:], []
    try:
        return soon(client.get("/v1/bookings"), user)
    finally:
        WARNED[:] = said


def bookings_below(rows: Sequence[dict[str, Any]], width: int) -> str:
    """Return a blank line, a title and the table, or nothing if there are no bookings."""
    if not rows:
        return ""
    return "".join(f"{line}\n" for line in ["", f"{TITLE}:", *booking_table(rows, width)])


def booking_table(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    """Return the lines of the table: who, which GPUs or how many, from when until when, and the note."""
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415 - mostly, nothing is booked
    from canhazgpu.cli.local_times import DAY, SHORT, local  # noqa: PLC0415

    days = [local(row["begin"], "%Y-%m-%d") == local(row["end"], "%Y-%m-%d") for row in rows]
    columns = [
        Column("WHO", [holder(row) for row in rows], least=8),
        Column("GPUS", [wanted(row) for row in rows]),
        Column("FROM", [f"{'LATE ' * bool(row['late'])}{local(row['begin'], DAY)}" for row in rows]),
        Column(
            "UNTIL",
            [local(row["end"], SHORT if same else DAY) for row, same in zip(rows, days, strict=True)],
            drop=2,
        ),
        Column(
            "NOTE",
            [foreign(row["note"], LONGEST_WORDS) if row["note"] else "-" for row in rows],
            least=8,
            drop=1,
        ),
    ]
    return lay_out(columns, width)


def wanted(row: dict[str, Any]) -> str:
    """Return the number of GPUs that a booking is for, or those that it names."""
    from canhazgpu.events.spelling.gpu_ranges import name_gpus  # noqa: PLC0415 - mostly, nothing is booked

    return str(row["count"]) if row["gpus"] is None else name_gpus(row["gpus"])
