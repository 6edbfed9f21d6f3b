"""`canhazgpu doctor`: check what works on this host, and suggest a remedy for what does not."""

import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from canhazgpu.cli.exit_codes import REFUSED, CommandEnded
from canhazgpu.cli.output import examples, print_json
from canhazgpu.events.sanitize import printable

EPILOG = examples("canhazgpu doctor", "canhazgpu doctor --json")
Finding = tuple[str, str, str]  # ok, warn, fail or skip · what was found · what to do


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> None:
    """Check the settings, the service and the channels.

    `warn` is worth a look. `skip` means that you cannot run this check; the line says who can. The exit code
    is 1 if a check fails.
    """
    from canhazgpu.cli.doctor import host_checks, readable_settings  # noqa: PLC0415 - heavy

    settings, first = readable_settings.settings()
    found: list[tuple[str, Finding]] = [("settings", first)]
    if settings is not None:
        for name, check in host_checks.ALL.items():
            found += [(name, finding) for finding in _run(check, settings)]
    if as_json:
        names = ("check", "state", "found", "remedy")
        print_json([dict(zip(names, (name, *finding), strict=True)) for name, finding in found])
    else:
        _print(found)
    if any(state == "fail" for _, (state, _, _) in found):
        raise CommandEnded(REFUSED)


def _run(check: Callable[[Any], Iterator[Finding]], settings: Any) -> list[Finding]:
    try:
        return list(check(settings))
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
        return [("fail", f"{type(error).__name__}: {error}", "the check itself failed; please report this")]


def _print(found: list[tuple[str, Finding]]) -> None:
    for name, (state, what, remedy) in found:
        sys.stdout.write(f"{state:<5} {name:<10} {printable(what, 300)}\n")
        if remedy:
            sys.stdout.write(f"{'':<17}{printable(remedy, 300)}\n")
