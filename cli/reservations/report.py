"""`canhazgpu report`: print GPU-hours by user, GPU, day, hour or host, for people, as JSON or as CSV."""

import csv
import os
import sys
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.arguments import integer, name
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import MINUTES, as_utc, local, zone_for_service
from canhazgpu.cli.options import TIMES, time_option
from canhazgpu.cli.output import client, csv_cell, examples, fail, print_json, table
from canhazgpu.cli.reservations.report_charts import bars, heat_map
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

BY = ("user", "gpu", "day", "hour", "host")
MOST_DAYS = 36_500
NOTHING = "Nothing is known about this period."
NOTHING_OF_A_USER = "Nothing was reserved, used or waited for in this period."
SHOWN = 10  # Hosts.
LEAST = 180  # Seconds that are shown as 0.1 hours.
# The columns of a table: heading, field of the answer. Only what everybody shares has the last three.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("RESERVED", "reserved_s"),
    ("ACTIVE", "active_s"),
    ("IDLE", "idle_s"),
    ("UNUSED", "unused_s"),
    ("UNSEEN", "unseen_s"),
    ("UNRESERVED", "unreserved_s"),
    ("WAITED", "waiting_s"),
    ("FREE", "free_s"),
    ("OUT", "out_of_service_s"),
    ("UNKNOWN", "unknown_s"),
)
OF_A_USER = COLUMNS[:7]
FIELDS = (*(field for _, field in COLUMNS), "trespass_s")
EPILOG = examples(
    "canhazgpu report",
    "canhazgpu report --mine --by day",
    "canhazgpu report --days 30 --by gpu",
    "canhazgpu report --since 2026-11-01 --until 2026-12-01 --by day",
    "canhazgpu report --days 30 --by hour --csv > hours.csv",
    "canhazgpu report --all --by host",
    "canhazgpu report --json | jq '.total.idle_s / 3600'",
)


def _by(incomplete: str) -> list[str]:
    return [one for one in BY if one.startswith(incomplete)]


def report(
    *,
    days: Annotated[
        int | None,
        typer.Option("--days", help="The last NUMBER days (default: 7).", metavar="NUMBER", parser=integer),
    ] = None,
    since: Annotated[str | None, time_option(f"Start, in local time: {TIMES}.")] = None,
    until: Annotated[str | None, time_option("End, in the same formats (default: now).")] = None,
    by: Annotated[
        str,
        typer.Option(
            help="One row for each user, gpu, day, hour or host.", metavar="WHAT", autocompletion=_by
        ),
    ] = "user",
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            "-u",
            help="Only the hours of this user.",
            metavar="USER",
            callback=name,
            autocompletion=candidates.users,
        ),
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own hours.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in seconds.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, in seconds.")] = False,
    every_host: Annotated[
        bool,
        typer.Option("--all", help="All hosts of the fleet: whole hours in the last 31 days."),
    ] = False,
) -> None:
    """Show GPU-hours: reserved, used, held idle, used without a reservation, free, and waiting time.

    Reserved time is active, idle (memory is in use, but the GPU does no work), unused, or unseen (the service
    was off). Reservations that have not ended are counted up to now.
    """
    if as_json and as_csv:
        fail("--json and --csv cannot be used together", USAGE)
    if days is not None and since is not None:
        fail("--days and --since cannot be used together", USAGE)
    if days is not None and not 1 <= days <= MOST_DAYS:
        fail(f"--days: {days} is out of range: use 1 to {MOST_DAYS}", USAGE)
    if user is not None and mine:
        fail("--user and --mine cannot be used together", USAGE)
    _check_by(by, every_host=every_host)
    words = {"by": by, "zone": zone_for_service(), **({"own": "1"} if mine else {})}
    words |= {} if user is None else {"user": user}
    if days is not None or since is not None:
        words["since"] = f"{days}d" if since is None else as_utc(since)
    if until is not None:
        words["until"] = as_utc(until)
    _check(words, "--since" if days is None else "--days")
    answer = client().get(f"/v1/{'fleet/' if every_host else ''}report?{urlencode(words)}")
    if as_json:
        print_json(answer)
    elif as_csv:
        _write_csv(answer["rows"])
    else:
        sys.stdout.write(_text(answer))
    _name_left_out(answer.get("left_out", []))


def _check_by(by: str, *, every_host: bool) -> None:
    if by not in BY:
        fail(f"--by: there is no '{printable(by, 20)}'; use one of {', '.join(BY)}", USAGE)
    if every_host and by == "gpu":
        fail("--by gpu is about this host only: leave out --all, or use --by host", USAGE)


def _name_left_out(hosts: list[str]) -> None:
    """Say which hosts are not in the report."""
    if hosts:
        names = ", ".join(printable(host) for host in hosts[:SHOWN])
        more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
        sys.stderr.write(f"No hours are known of {names}{more}.\n")


def _check(words: dict[str, str], since: str) -> None:
    from canhazgpu.service.violations.filters import filters  # noqa: PLC0415 - heavy

    period = {name: word for name, word in words.items() if name in ("since", "until")}
    try:
        filters(period, round(time.time() * 1000), lambda name: since if name == "since" else f"--{name}")
    except ValueError as error:
        fail(str(error), USAGE)


def _write_csv(rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["key", "uid", "gpu_id", *FIELDS])
    for row in rows:
        labels = [csv_cell(row[name]) for name in ("key", "uid", "gpu_id")]
        writer.writerow([*labels, *(f"{row[name]:.3f}" for name in FIELDS)])


def _text(answer: dict[str, Any]) -> str:
    by, total = answer["by"], answer["total"]
    period = f"{local(answer['since'], MINUTES)} to {local(answer['until'], MINUTES)}"
    whose = printable(answer["host"])
    if answer["user"] is not None:
        whose = f"{printable(answer['user'])} on {whose}"
    head = f"GPU-hours of {whose}, {period}\n\n"
    everything = sum(total[field] for _, field in COLUMNS if field not in ("reserved_s", "waiting_s"))
    if not everything and not total["waiting_s"]:
        return f"{head}{NOTHING if answer['user'] is None else NOTHING_OF_A_USER}\n"
    columns = OF_A_USER if by == "user" or answer["user"] is not None else COLUMNS
    if by == "gpu":
        columns = tuple(one for one in columns if one[1] != "waiting_s")
    names = [_name(row, by) for row in answer["rows"]]
    cells = [
        [name, *(_hours(row[field]) for _, field in columns)]
        for name, row in zip(names, answer["rows"], strict=True)
    ]
    if len(cells) != 1:
        cells.append(["all", *(_hours(total[field]) for _, field in columns)])
    text = (
        f"{head}{table([by.upper(), *(name for name, _ in columns)], cells)}\n\n{_sum_up(total, everything)}"
    )
    if not sys.stdout.isatty():
        return text
    colour = not os.environ.get("NO_COLOR")
    return f"{text}\n{bars(names, answer['rows'], colour=colour)}\n{heat_map(answer['week'])}"


def _name(row: dict[str, Any], by: str) -> str:
    if by == "gpu":
        return printable(row["key"]) if row["gpu_id"] is None else spell_gpu(row["gpu_id"])
    return local(row["key"], MINUTES) if by in ("day", "hour") else printable(row["key"])


def _hours(seconds: float) -> str:
    if not seconds:
        return "-"
    return f"{seconds / 3600:.1f}" if seconds >= LEAST else "<0.1"


def _sum_up(total: dict[str, float], everything: float) -> str:
    """Return two sentences about all GPUs."""
    shares = [
        f"{words} {total[field] / everything:.0%}"
        for words, field in (
            ("active", "active_s"),
            ("held idle", "idle_s"),
            ("reserved and unused", "unused_s"),
            ("reserved, use not seen", "unseen_s"),
            ("used without reservation", "unreserved_s"),
            ("free", "free_s"),
            ("out of service", "out_of_service_s"),
            ("unknown", "unknown_s"),
        )
        if total[field]
    ]
    found = f"{_hours(everything)} GPU-hours: {', '.join(shares) or 'none'}.\n"
    if total["trespass_s"]:
        found += f"GPUs reserved by somebody else were used for {_hours(total['trespass_s'])} hours.\n"
    return found
