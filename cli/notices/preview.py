"""`canhazgpu notify preview`: print notices as their recipients would see them. Nothing is sent."""

import os
import socket
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import examples, fail, print_json, table
from canhazgpu.cli.violations.listing import find
from canhazgpu.events.sanitize import printable
from canhazgpu.events.timestamps import use_zone

if TYPE_CHECKING:
    from canhazgpu.notifiers.messages.sample_notices import Sample

CHANNELS = ("wall", "email")
EPILOG = examples(
    "canhazgpu notify preview --list",
    "canhazgpu notify preview --kind opened --audience offender --channel wall",
    "canhazgpu notify preview --kind digest --html > digest.html",
    "canhazgpu notify preview --violation v1012",
)


def preview(
    *,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Only this kind, for example opened, granted or digest.",
            callback=non_empty,
        ),
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option(
            "--audience",
            metavar="AUDIENCE",
            help="Only for this audience: offender, holder, admins or address.",
            callback=non_empty,
        ),
    ] = None,
    violation: Annotated[
        str | None,
        typer.Option(
            "--violation",
            metavar="ID",
            autocompletion=candidates.violations,
            help="Preview the notices about this violation (id or the start of one).",
            callback=non_empty,
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="CHANNEL",
            autocompletion=candidates.channels,
            help="wall (as shown on a terminal) or email.",
            callback=non_empty,
        ),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML part of emails.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List the available notices.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Print sample notices, or those for a real violation, without sending them."""
    from canhazgpu.events.contract.values import (  # noqa: PLC0415 - heavy
        AUDIENCES,
        NOTICE_KINDS,
        VIOLATION_NOTICES,
    )

    _one_of("--channel", channel, CHANNELS)
    _one_of("--kind", kind, VIOLATION_NOTICES if violation else NOTICE_KINDS)
    _one_of("--audience", audience, AUDIENCES)
    if html and channel == "wall":
        fail("--html and --channel wall cannot be used together: a terminal shows text", USAGE)
    chosen = _chosen(_of_violation(violation) if violation else _samples(), kind, audience)
    if as_json:
        print_json([_facts(one, whole=not names) for one in chosen])
    elif names:
        sys.stdout.write(table(("NOTICE", "AUDIENCE AND CONTENT"), [(one.name, one.about) for one in chosen]))
        sys.stdout.write("\n")
    elif html:
        from canhazgpu.notifiers.messages.html_page import page  # noqa: PLC0415 - heavy

        sys.stdout.write("".join(page(one.notice) for one in chosen))
    else:
        sys.stdout.write("\n".join(_shown(one, channel) for one in chosen))


def _samples() -> "list[Sample]":
    from canhazgpu.notifiers.messages.sample_notices import samples  # noqa: PLC0415 - heavy

    return samples()


def _chosen(found: "list[Sample]", kind: str | None, audience: str | None) -> "list[Sample]":
    of_kind = [one for one in found if kind in (None, one.notice.kind)]
    option = f"--audience with --kind {kind}" if kind else "--audience"
    _one_of(option, audience, (one.notice.audience for one in of_kind))
    return [one for one in of_kind if audience in (None, one.notice.audience)]


def _one_of(option: str, value: str | None, allowed: Iterable[str]) -> None:
    """Exit with a usage error if a value is given that is not allowed."""
    known = list(dict.fromkeys(allowed))
    if value is not None and value not in known:
        fail(f"{option}: expected one of {', '.join(known)}, not {printable(value)}", USAGE)


def _of_violation(name: str) -> "list[Sample]":
    """Return all notices that could be sent about one violation."""
    import msgspec  # noqa: PLC0415 - heavy

    from canhazgpu.events.violations import Violation  # noqa: PLC0415
    from canhazgpu.notifiers.samples import of_violation  # noqa: PLC0415

    found = find(name)["violation"]
    host, contact = _host()
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return of_violation(msgspec.convert(found, Violation), host, contact, now)


def _host() -> tuple[str, str]:
    """Return the host name and the contact; the contact is empty if the settings are not readable."""
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy

    try:
        settings = load().settings
    except ConfigError as error:
        if os.environ.get("CANHAZGPU_CONFIG"):  # A file that was named must be usable.
            fail(str(error), USAGE)
        return socket.gethostname(), ""
    use_zone(settings.notices.quiet.timezone)
    return settings.host, settings.notices.contact


def _shown(one: "Sample", channel: str | None) -> str:
    from canhazgpu.notifiers.messages.plain_text import lines, subject  # noqa: PLC0415 - heavy

    head = f"== {one.name}: {one.about}\n"
    if channel == "wall":
        text, size, most = _terminal(one)
        return f"{head}{text}-- {size} of {most} bytes\n"
    return "\n".join([f"{head}Subject: {subject(one.notice)}", "", *lines(one.notice), ""])


def _terminal(one: "Sample") -> tuple[str, int, int]:
    """Return the text on a terminal, its length in bytes, and the maximum length."""
    from canhazgpu.notifiers.channels.terminals import LONGEST  # noqa: PLC0415
    from canhazgpu.notifiers.channels.wall import message  # noqa: PLC0415
    from canhazgpu.notifiers.messages.plain_text import lines  # noqa: PLC0415 - heavy

    written = message(lines(one.notice))
    return written.decode().replace("\r\n", "\n").replace("\a", "").lstrip("\n"), len(written), LONGEST


def _facts(one: "Sample", *, whole: bool) -> dict[str, Any]:
    from canhazgpu.notifiers.messages.html_page import page  # noqa: PLC0415 - heavy
    from canhazgpu.notifiers.messages.plain_text import lines, subject  # noqa: PLC0415

    notice = one.notice
    row = {"name": one.name, "kind": notice.kind, "audience": notice.audience, "about": one.about}
    if not whole:
        return row
    text = {"subject": subject(notice), "lines": lines(notice), "terminal": _terminal(one)[0]}
    return {**row, **text, "html": page(notice)}
