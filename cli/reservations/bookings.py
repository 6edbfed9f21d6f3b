"""`canhazgpu bookings`, and `reserve --begin`: GPUs that are promised for a later time."""

from __future__ import annotations

import sys

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.status_lines import foreign, holder
from canhazgpu.client.reservations import post
from canhazgpu.events.spelling.gpu_ranges import name_gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Annotated, Any

    import typer

EPILOG = examples(
    "canhazgpu bookings",
    "canhazgpu bookings --json | jq -r '.[] | .user'",
    "canhazgpu bookings --ics > gpus.ics",
    "canhazgpu reserve --gpus 2 --begin 'tomorrow 9:00' --duration 4h",
    "canhazgpu cancel b1796017013625-8",
)
SHOWN = 40  # Characters of a note; --json has all of it.
SENT = ("count", "gpus", "vendor", "duration", "label", "note")


def bookings(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    ics: Annotated[bool, typer.Option("--ics", help="Print a calendar (RFC 5545) to import.")] = False,
) -> None:
    """List the bookings that have not begun, and maintenance.

    `canhazgpu cancel ID` cancels one; the bookings of a series have the same id up to the dot. LATE in the
    column BEGIN means that its GPUs are not free yet.
    """
    if as_json and ics:
        fail("--json and --ics cannot be used together", USAGE)
    rows = client().get("/v1/bookings")
    if as_json:
        print_json(rows)
    elif ics:
        from canhazgpu.cli.display.calendar import calendar  # noqa: PLC0415 - few need it

        sys.stdout.write(calendar(rows))
    elif rows:
        sys.stdout.write(_table(rows))
    else:
        sys.stdout.write("Nothing is booked.\n")


def book(
    body: dict[str, Any], begin: str, series: tuple[str, str] | None, *, as_json: bool, short: bool
) -> None:
    """Book GPUs from a time on that somebody wrote, and print what is booked.

    `series` has the days on which they are booked again, and the last one, as somebody wrote them.
    """
    from canhazgpu.cli.local_times import begin_time, rfc3339, zone_for_service  # noqa: PLC0415 - slow to import

    try:
        moment = begin_time(begin)
    except (ValueError, OverflowError) as error:
        fail(f"--begin: {error}", USAGE)
    wanted = {name: body[name] for name in SENT if name in body} | {"zone": zone_for_service()}
    if series is not None:
        _book_series(wanted, moment, *series, as_json=as_json, short=short)
        return
    row = post(client(), "/v1/bookings", {**wanted, "begin": rfc3339(moment)})
    if as_json:
        print_json(row)
    elif short:
        sys.stdout.write(f"{row['id']}\n")
    else:
        sys.stdout.write(f"Booked {spell_booking(row)}: {row['id']}\n")


def _book_series(
    wanted: dict[str, Any], begin: datetime, every: str, until: str, *, as_json: bool, short: bool
) -> None:
    from canhazgpu.cli.local_times import rfc3339  # noqa: PLC0415 - slow to import

    try:
        begins = repeated(begin, every, until)
    except ValueError as error:
        fail(str(error), USAGE)
    first, *repeats = map(rfc3339, begins)
    if not repeats:
        fail(f"--every {every} --until {until}: there is only one such day", USAGE)
    rows = post(client(), "/v1/bookings/series", {**wanted, "begin": first, "repeats": repeats})
    if as_json:
        print_json(rows)
    elif short:
        sys.stdout.write(f"{rows[0]['series']}\n")
    else:
        for row in rows:
            sys.stdout.write(f"Booked {spell_booking(row)}: {row['id']}\n")
        sys.stdout.write(f"`canhazgpu cancel {rows[0]['series']}` cancels all of them.\n")


def repeated(begin: datetime, every: str, until: str) -> list[datetime]:
    """Return moments from `begin` on, in UTC: the same time of day on the days of a series.

    If the day of `begin` is none of them, the first is later. Raises ValueError, also for a time that does
    not exist on a day because the clocks are put forward.
    """
    from datetime import UTC, datetime  # noqa: PLC0415 - slow to import

    from canhazgpu.cli.local_times import existing  # noqa: PLC0415
    from canhazgpu.cli.syntax.series_days import series_days  # noqa: PLC0415
    from canhazgpu.events.timestamps import zone  # noqa: PLC0415

    first = begin.astimezone(zone())
    days = series_days(first.date(), every, until, zone())
    again = [existing(datetime.combine(day, first.time())) for day in days if day != first.date()]
    return [begin.astimezone(UTC), *again] if first.date() in days else again


def spell_booking(row: dict[str, Any]) -> str:
    """Return `2 GPU(s) from 2026-12-01 09:00 CET to 13:00 CET`."""
    from canhazgpu.cli.local_times import DAY, MINUTES, SHORT, local  # noqa: PLC0415 - slow to import

    same = local(row["begin"], DAY).split()[0] == local(row["end"], DAY).split()[0]
    end = local(row["end"], SHORT if same else MINUTES)
    return f"{_gpus(row)} from {local(row['begin'], MINUTES)} to {end}"


def _gpus(row: dict[str, Any]) -> str:
    return f"{row['count']} GPU(s)" if row["gpus"] is None else name_gpus(row["gpus"])


def _table(rows: list[dict[str, Any]]) -> str:
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.terminal import columns_of_terminal  # noqa: PLC0415
    from canhazgpu.cli.local_times import MINUTES, local  # noqa: PLC0415

    notes = [foreign(row["note"], SHOWN) if row["note"] else "-" for row in rows]
    late = ["LATE " if row["late"] else "" for row in rows]
    begins = [f"{is_late}{local(row['begin'], MINUTES)}" for is_late, row in zip(late, rows, strict=True)]
    shown = [
        Column("ID", [foreign(row["id"]) for row in rows]),
        Column("USER", [holder(row) for row in rows], least=8),
        Column("GPUS", [_wanted(row) for row in rows]),
        Column("BEGIN", begins),
        Column("END", [local(row["end"], MINUTES) for row in rows]),
        Column("NOTE", notes, least=8, drop=1),
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns_of_terminal(sys.stdout)))


def _wanted(row: dict[str, Any]) -> str:
    return str(row["count"]) if row["gpus"] is None else name_gpus(row["gpus"])
