"""`canhazgpu events`: print the event stream of this host, past and live."""

import json
import re
import sys
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import local
from canhazgpu.cli.output import client, examples, fail
from canhazgpu.client import Unreachable
from canhazgpu.events.sanitize import printable

RETRY = 0.5  # Seconds between attempts to reconnect to a service that was restarted.
SILENCE = 45.0  # Seconds; a quiet stream sends a keep-alive every 15 s.
LONGEST = 160
EPILOG = examples(
    "canhazgpu events",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Print recent events, oldest first.

    With --follow, new events are printed as they happen.
    """
    _check(types or [], after)
    service = client()
    came_back = False
    while True:
        query: list[tuple[str, str]] = [("type", name) for name in types or ()]
        query += [("after", after)] if after else []
        query += [("follow", "1")] if follow else []
        try:
            for event in service.lines("/v1/events?" + urlencode(query), silence=SILENCE):
                after, came_back = event["stream_id"], True
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


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(event) + "\n")
    else:
        kind = printable(event["type"].removeprefix("canhazgpu."))
        told = printable(_summary(event["data"]), LONGEST)
        sys.stdout.write(
            f"{local(event['time'])}  {kind:<18}  {printable(event['subject'])}  {told}\n".rstrip() + "\n"
        )
    sys.stdout.flush()


def _summary(data: dict[str, Any]) -> str:
    """Return the important values for the human-readable output."""
    names = (
        "user",
        "gpu",
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
        f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in known
    )
