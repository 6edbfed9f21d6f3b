"""`canhazgpu events`: print the event stream of this host, past and live."""

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from canhazgpu.cli.arguments import filters as checked_filters
from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.local_times import as_utc
from canhazgpu.cli.notices import conformance
from canhazgpu.cli.notices.event_lines import print_event
from canhazgpu.cli.options import (
    TIMES,
    checked,
    gpu_option,
    integer,
    newest_option,
    time_option,
    user_option,
)
from canhazgpu.cli.output import client, examples, fail
from canhazgpu.client import Unreachable
from canhazgpu.events.sanitize import printable

RETRY = 0.5  # Seconds between attempts to reconnect to a service that was restarted.
SILENCE = 45.0  # Seconds; a quiet stream sends a keep-alive every 15 s.
MOST = 100_000
EPILOG = examples(
    "canhazgpu events",
    "canhazgpu events --since yesterday --user bob",
    "canhazgpu events --gpu 3 -n 20",
    "canhazgpu events --follow --type violation",
    "canhazgpu events --follow --json | jq -r .data.user",
    "canhazgpu events --follow --group tickets --type violation --exec ./open-ticket",
)
app = typer.Typer(
    help="Print recent events, oldest first, or pass each to a program.",
    epilog=EPILOG,
    rich_markup_mode=None,
)
app.command("conformance", epilog=conformance.EPILOG)(conformance.conformance)
STREAMS = ("events", "violations", "ledger", "notices", "deliveries")
BEGINNINGS = ("oldest", "newest")


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"there is no {printable(text)}: use {', '.join(names[:-1])} or {names[-1]}")
        return text

    return check


def _streams(incomplete: str) -> list[str]:
    return [name for name in STREAMS if name.startswith(incomplete)]


def _beginnings(incomplete: str) -> list[str]:
    return [name for name in BEGINNINGS if name.startswith(incomplete)]


@app.callback(invoke_without_command=True)
def events(
    context: typer.Context,
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
    group: Annotated[
        str | None,
        typer.Option(
            help="With --follow, read as a member of this consumer group: no event is missed, also across"
            " restarts (root and the user of the service only).",
            metavar="NAME",
            callback=non_empty,
            autocompletion=candidates.groups,
        ),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            help="With --group: run this with /bin/sh for each event, which is JSON on its standard input."
            " Exit status 0: the event is acknowledged. Otherwise it is tried again.",
            metavar="COMMAND",
            callback=non_empty,
        ),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(
            help=f"With --group: {', '.join(STREAMS[:-1])} or {STREAMS[-1]} (default: events).",
            metavar="STREAM",
            callback=checked(_one_of(STREAMS)),
            autocompletion=_streams,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="With --group: the name of this member; must be unique in the group (default: the host).",
            metavar="NAME",
            callback=non_empty,
        ),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            help="With --group: where a new group begins, oldest or newest (default: oldest).",
            metavar="WHERE",
            callback=checked(_one_of(BEGINNINGS)),
            autocompletion=_beginnings,
        ),
    ] = None,
    attempts: Annotated[
        int | None,
        typer.Option(
            help="With --exec: how often an event is tried (default: 10).", metavar="NUMBER", parser=integer
        ),
    ] = None,
    dead_letters: Annotated[
        str | None,
        typer.Option(
            help="With --group: append events that cannot be handled to this file and go on (default: stop).",
            metavar="FILE",
            callback=non_empty,
            autocompletion=candidates.files,
        ),
    ] = None,
) -> None:
    """Print recent events, oldest first.

    With --follow, new events are printed as they happen.
    """
    own: dict[str, Any] = {"exec": command, "stream": stream, "name": name, "begin": begin}
    own |= {"attempts": attempts, "dead_letters": dead_letters}
    past: dict[str, Any] = {"after": after, "since": since, "until": until, "user": user, "gpu": gpu}
    past |= {"number": number}
    if context.invoked_subcommand is not None:
        given = follow or types or as_json or group or any(map(_is_given, [*own.values(), *past.values()]))
        if given:
            fail("put the options after the command", USAGE)
        return
    _check(types or [], after)
    if group is not None:
        _check_group(own, past, follow=follow, as_json=as_json)
        from canhazgpu.cli.notices.consume import Choices, consume  # noqa: PLC0415 - heavy

        consume(Choices(group=group, **own), types or [], partial(print_event, as_json=as_json))
        return
    for option in own:
        if _is_given(own[option]):
            fail(f"--{option.replace('_', '-')} needs --group NAME", USAGE)
    _show(past, types or [], follow=follow, as_json=as_json)


def _is_given(value: object) -> bool:
    return value is not None


def _check_group(own: dict[str, Any], past: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    if not follow:
        fail("--group needs --follow, because a group is read until Ctrl-C", USAGE)
    for name, value in past.items():
        if _is_given(value):
            option = "-n" if name == "number" else f"--{name}"
            fail(f"{option} and --group cannot be used together: a group continues where it stopped", USAGE)
    if own["exec"] is None:
        if _is_given(own["attempts"]):
            fail("--attempts needs --exec COMMAND", USAGE)
    elif as_json:
        fail("--exec and --json cannot be used together: the program always gets JSON", USAGE)


def _show(past: dict[str, Any], types: list[str], *, follow: bool, as_json: bool) -> None:
    """Print what the service sends, and reconnect to it if it was restarted."""
    after, number = past["after"], past["number"]
    words = {name: past[name] and as_utc(past[name]) for name in ("since", "until")}
    _check_together(past, follow=follow)
    filters = checked_filters({**words, "user": past["user"], "gpu": past["gpu"]})
    newest = {} if number is None else {"n": str(number)}
    service = client()
    came_back = False
    while True:
        query: list[tuple[str, str]] = [("type", kind) for kind in types]
        query += [("after", after)] if after else []
        query += [("follow", "1")] if follow else []
        query += [*filters.items(), *newest.items()]
        try:
            for event in service.lines("/v1/events?" + urlencode(query), silence=SILENCE):
                after, came_back = event["stream_id"], True
                newest.clear()  # Who comes back wants everything since.
                print_event(event, as_json=as_json)
        except Unreachable:
            if not (follow and came_back):
                raise
        if not follow:
            return
        came_back = True
        time.sleep(RETRY)


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


def _check_together(past: dict[str, Any], *, follow: bool) -> None:
    number = past["number"]
    if number is not None and not 1 <= number <= MOST:
        fail(f"-n: {number} is out of range: use 1 to {MOST}", USAGE)
    if past["after"] and past["since"] is not None:
        fail("--after and --since cannot be used together", USAGE)
    if follow and past["until"] is not None:
        fail("--follow and --until cannot be used together", USAGE)
