"""`canhazgpu events`: print the event stream of this host, past and live."""

import json
import re
import sys
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.arguments import gpu as card_named
from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import as_utc, local
from canhazgpu.cli.options import TIMES, gpu_option, newest_option, time_option, user_option
from canhazgpu.cli.output import client, examples, fail
from canhazgpu.client import Unreachable
from canhazgpu.events.sanitize import printable

RETRY = 0.5  # Seconds between attempts to reconnect to a service that was restarted.
SILENCE = 45.0  # Seconds; a quiet stream sends a keep-alive every 15 s.
LONGEST = 160
MOST = 100_000
EPILOG = examples(
    "canhazgpu events",
    "canhazgpu events --since yesterday --user bob",
    "canhazgpu events --gpu 3 -n 20",
    "canhazgpu events --follow --type violation",
    "canhazgpu events --follow --json | jq -r .data.user",
)


def events(
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new events until Ctrl-C.")
    ] = False,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            autocompletion=candidates.types,
            help="Only events of this type, for example violation or gpu.failed (repeatable).",
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(help="Only events after this stream_id.", metavar="STREAM_ID", callback=non_empty),
    ] = None,
    since: Annotated[
        str | None,
        time_option(
            f"Events since this time, in local time: {TIMES}"
            " (default: the last 100 events; with --user, --gpu, --until or -n: 7d)."
        ),
    ] = None,
    until: Annotated[
        str | None, time_option("Events until this time, in the same formats; a date means 00:00.")
    ] = None,
    user: Annotated[str | None, user_option("Only events that name this user.")] = None,
    gpu: Annotated[str | None, gpu_option("Only events about this GPU.")] = None,
    number: Annotated[int | None, newest_option("At most this many past events, the newest ones.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Print recent events, oldest first.

    With --follow, new events are printed as they happen.
    """
    _check(types or [], after)
    words = {"since": since and as_utc(since), "until": until and as_utc(until), "user": user, "gpu": gpu}
    filters = {key: word for key, word in words.items() if word is not None}
    checked = {**filters, "gpu": "0"} if isinstance(card_named(gpu), str) else filters
    _check_filters(checked, number, after, follow=follow)
    past = {} if number is None else {"n": str(number)}
    service = client()
    came_back = False
    while True:
        query: list[tuple[str, str]] = [("type", kind) for kind in types or ()]
        query += [("after", after)] if after else []
        query += [("follow", "1")] if follow else []
        query += [*filters.items(), *past.items()]
        try:
            for event in service.lines("/v1/events?" + urlencode(query), silence=SILENCE):
                after, came_back = event["stream_id"], True
                past.clear()  # Who comes back wants everything since.
                if event["type"] == "canhazgpu.stream.gap" and not as_json:
                    _print_gap(event["data"])
                else:
                    _print(event, as_json=as_json)
        except Unreachable:
            if not (follow and came_back):
                raise
        if not follow:
            return
        came_back = True
        time.sleep(RETRY)


def _print_gap(gap: dict[str, Any]) -> None:
    count = gap["missing"]
    known = {None: "an unknown number of events are missing", 1: "1 event is missing"}
    said = known.get(count, f"{count} events are missing")
    sys.stdout.flush()
    sys.stderr.write(
        f"canhazgpu: {said} between {printable(gap['after'])} and {printable(gap['before'])}:"
        " they were removed from the stream\n"
    )


def _check(types: list[str], after: str | None) -> None:
    if after and not re.fullmatch(r"[0-9]{1,19}(-[0-9]{1,19})?", after):
        fail("--after: expected a stream_id, as --json shows it", USAGE)
    if types:
        from canhazgpu.events.envelope import TYPES, matches  # noqa: PLC0415 - heavy

        for name in types:
            if not any(matches(known, [name]) for known in TYPES):
                nouns = ", ".join(dict.fromkeys(one.split(".")[1] for one in TYPES))
                known = f"{nouns}, or one such as violation.opened (docs/events.md lists them)"
                fail(f"--type: there is no event type {printable(name)}; use {known}", USAGE)


def _check_filters(filters: dict[str, str], number: int | None, after: str | None, *, follow: bool) -> None:
    from canhazgpu.service.violations.filters import filters as parse  # noqa: PLC0415 - heavy

    if number is not None and not 1 <= number <= MOST:
        fail(f"-n: {number} is out of range: use 1 to {MOST}", USAGE)
    if after and "since" in filters:
        fail("--after and --since cannot be used together", USAGE)
    if follow and "until" in filters:
        fail("--follow and --until cannot be used together", USAGE)
    try:
        parse(filters, round(time.time() * 1000), lambda name: f"--{name}")
    except ValueError as error:
        fail(str(error), USAGE)


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(event) + "\n")
    else:
        kind = printable(event["type"].removeprefix("canhazgpu."))
        told = printable(_summary(event["data"]), LONGEST)
        sys.stdout.write(
            f"{local(event['time'])}  {kind:<20}  {printable(event['subject'])}  {told}\n".rstrip() + "\n"
        )
    sys.stdout.flush()


def _summary(data: dict[str, Any]) -> str:
    """Return the important values for the human-readable output."""
    names = (
        "user",
        "gpu",
        "gpus",
        "state",
        "in_use",
        "users",
        "memory_mb",
        "reason",
        "kind",
        "stalled_s",
        "duration_s",
    )
    known = ((name, data[name]) for name in names if data.get(name) not in (None, [], ""))
    return " ".join(
        f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}" for name, value in known
    )
