"""`canhazgpu check`: whether the caller has reserved the GPUs that a program would see now."""

from __future__ import annotations

import sys

from canhazgpu.cli.exit_codes import (
    NOT_RESERVED,
    UNREACHABLE,
    USAGE,
    CommandEnded,
    exit_code_for,
    use_run_codes,
)
from canhazgpu.cli.output import examples, fail, print_json
from canhazgpu.cli.status_lines import holder
from canhazgpu.client.connection import WARNED, Client, Unreachable
from canhazgpu.client.visible_gpus import check as ask
from canhazgpu.events.durations import DAY, HOUR, MINUTE, format_duration, spell_length
from canhazgpu.events.spelling.gpu_ranges import name_gpus, spell_ranges, states_of_gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated, NoReturn

    import typer

    from canhazgpu.client.visible_gpus import Check

EPILOG = examples(
    "canhazgpu check || echo 'reserve first'",
    'code=$(canhazgpu env) && eval "$code" && canhazgpu check',
    "CUDA_VISIBLE_DEVICES=1 canhazgpu check --quiet && echo ready",
    "CUDA_VISIBLE_DEVICES=1,3 canhazgpu check --exec -- python train.py",
    "PS1='$(canhazgpu check --short) \\$ '  # bash",
)
EXEC = "canhazgpu check --exec -- python train.py"
PROMPT_PATIENCE = 0.5  # Seconds. A prompt must not wait for a service that is stopped.


def check(
    *,
    command: Annotated[
        list[str] | None, typer.Argument(help="The command for --exec, after `--`.", metavar="[COMMAND]...")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing; only set the exit code.")
    ] = False,
    short: Annotated[
        bool,
        typer.Option(
            "--short",
            "-s",
            help="Print a short text for a prompt, such as gpu:0,3 2h10m; ! marks GPUs that are not yours.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    execute: Annotated[
        bool,
        typer.Option("--exec", help="Run the command if all GPUs are reserved; exit codes as for `run`."),
    ] = False,
) -> None:
    """Check whether you have reserved the GPUs that a program would see now.

    A program sees the GPUs in CUDA_VISIBLE_DEVICES, by the rules of CUDA, or all GPUs if it is not set. The
    exit code is 0 if you have reserved all of them, or if none is visible, and 4 otherwise.
    """
    if quiet + short + as_json + (execute and not quiet) > 1:
        fail("use one of --quiet, --short, --json and --exec", USAGE)
    if execute != bool(command) or bool(command) != ("--" in sys.argv):
        fail(f"--exec and a command after -- belong together: {EXEC}", USAGE)
    if execute:
        use_run_codes()
    if quiet or short:
        WARNED.clear()
    found = _asked_briefly() if short else ask()
    if short:
        sys.stdout.write(_brief(found))
    elif as_json:
        print_json(_facts(found))
    elif command:
        _become(command, found, quiet=quiet)
    elif not quiet:
        sys.stdout.write(_sentence(found) + "\n")
    if not found:
        raise CommandEnded(NOT_RESERVED)


def _asked_briefly() -> Check:
    try:
        return ask(client=Client(patience=PROMPT_PATIENCE))
    except Unreachable:
        sys.stdout.write("gpu:?\n")
        raise CommandEnded(UNREACHABLE) from None


def _brief(found: Check) -> str:
    """Return `gpu:0,3 2h10m !1`, or nothing if no GPU is visible."""
    own = [gpu for gpu in found.gpus if gpu not in found.missing]
    left = found.left()
    parts = [spell_ranges(own)] if own else []
    if left is not None:
        unit = HOUR if left >= DAY else MINUTE if left >= MINUTE else 1
        parts.append(format_duration(left - left % unit))
    parts += [f"!{spell_ranges(found.missing)}"] if found.missing else []
    return f"gpu:{' '.join(parts)}\n" if parts else ""


def _facts(found: Check) -> dict[str, object]:
    rows = {row["gpu_id"]: row for row in found.rows}
    return {
        "reserved": bool(found),
        "gpus": found.gpus,
        "missing": found.missing,
        "certain": found.certain,
        "why": found.why,
        "expires_in_s": found.left(),
        "visible": [rows[gpu] for gpu in found.gpus],
    }


def _sentence(found: Check) -> str:
    if not found.gpus:
        return f"No GPU is visible: {found.why}"
    if found:
        own = [row["gpu_id"] for row in found.rows if row["own"] and row["gpu_id"] in found.gpus]
        free = [gpu for gpu in found.gpus if gpu not in own]
        left = found.left()
        until = "" if left is None else f" for {spell_length(left)}"
        states = [(gpu, f"reserved by you{until}") for gpu in own] + [(gpu, "not managed") for gpu in free]
        return states_of_gpus(states)
    rows = {row["gpu_id"]: row for row in found.rows}
    held = [(gpu, rows[gpu]["reservation"]) for gpu in found.missing]
    missing = states_of_gpus(
        (gpu, f"reserved by {holder(one)}" if one else "not reserved") for gpu, one in held
    )
    divided = {row.get("parent") for row in found.rows}
    some = len(found.gpus) < sum(row["gpu_id"] not in divided for row in found.rows)
    why = "" if found.certain and some else f"; {found.why}"
    return f"{missing}{why}: {_remedy(found)}"


def _remedy(found: Check) -> str:
    if not found.certain:
        return "export CUDA_DEVICE_ORDER=PCI_BUS_ID"
    own = [row["gpu_id"] for row in found.rows if row["own"]]
    if own:
        them = "it" if len(own) == 1 else "them"
        return f"you hold {name_gpus(own)}, `canhazgpu env` prints how to use {them}"
    return "`canhazgpu reserve` reserves GPUs"


def _become(command: list[str], found: Check, *, quiet: bool) -> NoReturn:
    from canhazgpu.cli.reservations.run import become, look_up  # noqa: PLC0415 - only here

    if not found and quiet:
        raise CommandEnded(exit_code_for(NOT_RESERVED))
    if not found:
        fail(_sentence(found), NOT_RESERVED)
    become(look_up(command), command, {})
