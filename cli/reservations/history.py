"""`canhazgpu history`: reservations that have ended."""

import sys
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.arguments import filters
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import MINUTES, as_utc, local
from canhazgpu.cli.options import TIMES, gpu_option, newest_option, time_option, user_option
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.status_lines import foreign, holder
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import LONGEST_WORDS
from canhazgpu.events.spelling.gpu_numbers import spell_gpu, usable_parts
from canhazgpu.events.spelling.gpu_ranges import spell_ranges

EPILOG = examples(
    "canhazgpu history",
    "canhazgpu history --gpu 3 --since yesterday",
    "canhazgpu history --user bob -n 5",
    "canhazgpu history --all --user bob",
    "canhazgpu history --since 30d --json | jq 'map(.held_s) | add'",
)
DEFAULT, MOST = 50, 10_000
OF_A_HOST = 150  # The fleet's Redis has no more.
REASONS = {
    "exited": "command ended",
    "released": "released",
    "expired": "expired",
    "idle": "not used",
    "no_show": "never used",
    "lost": "process lost",
    "unmanaged": "GPU not managed",
    "undelivered": "response not read",
    "vanished": "GPU vanished",
    "admin": "administrator",
    "stale": "had ended earlier",
}


def history(
    *,
    user: Annotated[str | None, user_option("Only reservations of this user.")] = None,
    gpu: Annotated[str | None, gpu_option("Only reservations of this GPU, by any user.")] = None,
    since: Annotated[
        str | None,
        time_option(f"Reservations that ended at this time or later, in local time: {TIMES} (default: 7d)."),
    ] = None,
    until: Annotated[
        str | None,
        time_option("Reservations that ended by this time, in the same formats; a date means 00:00."),
    ] = None,
    number: Annotated[int | None, newest_option("At most this many, the newest ones (default: 50).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    every_host: Annotated[
        bool, typer.Option("--all", help=f"All hosts of the fleet; at most the newest {OF_A_HOST} of each.")
    ] = False,
) -> None:
    """List reservations that have ended, oldest first.

    Without --user and --gpu, these are your own.
    """
    words = {"user": user, "gpu": gpu, "since": since and as_utc(since), "until": until and as_utc(until)}
    most = DEFAULT if number is None else number
    if not 1 <= most <= MOST:
        fail(f"-n: {most} is out of range: use 1 to {MOST}", USAGE)
    said = filters(words)
    own = {"own": "1"} if user is None and gpu is None else {}
    if every_host:
        _show_hosts({**said, **own, "n": most}, as_json=as_json)
        return
    rows = client().get("/v1/reservations/ended?" + urlencode({**said, **own, "n": most}))
    if as_json:
        print_json(rows)
    elif rows:
        sys.stdout.write(f"{_table(rows, whose=not own)}\n{_sum(rows, complete=len(rows) < most)}\n")
        if len(rows) == most:
            sys.stderr.write(f"There may be older ones: {_more(number, most)} shows them.\n")
    else:
        sys.stdout.write(_none(said))


def _show_hosts(words: dict[str, Any], *, as_json: bool) -> None:
    """Show the ended reservations of all hosts, by host; the hosts that have none are left out."""
    from canhazgpu.cli.fleet.hosts import show_hosts  # noqa: PLC0415 - few are in a fleet

    if "gpu" in words:
        fail("--gpu is about this host only: leave out --all", USAGE)

    def shown(rows: list[dict[str, Any]]) -> str:
        return _table(rows, whose="own" not in words)

    show_hosts("ended", "ended", shown, words=words, as_json=as_json, select=list)


def _more(number: int | None, most: int) -> str:
    """Return the option that shows more than the newest `most`."""
    more = min(MOST, most * 10)
    if most == MOST:
        return "--until"
    return f"-n {more}" if number is None else f"a larger number, such as -n {more},"


def _spelled(gpu: str) -> str:
    return spell_gpu(int(gpu)) if gpu.isdecimal() else gpu


def _none(said: dict[str, str]) -> str:
    """Return the line for no reservation at all: whose, and of which time."""
    whose = f"of {foreign(said['user'])} " if "user" in said else "" if "gpu" in said else "of yours "
    where = f"on GPU {foreign(_spelled(said['gpu']))} " if "gpu" in said else ""
    if "since" in said or "until" in said:
        return f"No reservation {whose}{where}ended in that period.\n"
    return f"No reservation {whose}{where}ended in the last 7 days; --since 30d looks further back.\n"


def _table(rows: list[dict[str, Any]], *, whose: bool) -> str:
    from canhazgpu.cli.display.tables import Column, lay_out  # noqa: PLC0415 - JSON does not need it
    from canhazgpu.cli.display.terminal import columns  # noqa: PLC0415

    users = [Column("USER", [holder(row) for row in rows], least=8)] if whose else []
    shown = [
        Column("ENDED", [local(row["ended"], MINUTES) for row in rows]),
        *users,
        Column("GPUS", [spell_ranges(row["gpus"]) for row in rows]),
        Column("LASTED", [_lasted(row) for row in rows], right=True),
        Column("KIND", [_kind(row) for row in rows], drop=3),
        Column("WHY", [_why(row) for row in rows], least=8, drop=2),
        Column(
            "NOTE",
            [foreign(row["note"], LONGEST_WORDS) if row["note"] else "-" for row in rows],
            least=8,
            drop=1,
        ),
    ]
    return "".join(f"{line}\n" for line in lay_out(shown, columns(sys.stdout)))


def _kind(row: dict[str, Any]) -> str:
    return foreign(row["kind"]) + " (booked)" * bool(row["booking"])


def _lasted(row: dict[str, Any]) -> str:
    return "-" if row["held_s"] is None else spell_length(row["held_s"])


def _why(row: dict[str, Any]) -> str:
    reason = REASONS.get(row["reason"], foreign(row["reason"] or "unknown"))
    other = row["by"] and row["by"] != row["user"]
    return f"{reason} ({foreign(row['by'])})" if other else reason


def _sum(rows: list[dict[str, Any]], *, complete: bool) -> str:
    hours = sum((row["held_s"] or 0) * len(usable_parts(row["gpus"])) for row in rows) / 3600
    return f"{len(rows)} {'in all' if complete else 'shown'}, {hours:.1f} GPU-hours"
