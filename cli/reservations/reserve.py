"""`canhazgpu reserve`, `extend`, `release` and `disown`: manual reservations, which last for a fixed time."""

from __future__ import annotations

import sys

from canhazgpu.cli import arguments, shells
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.status_lines import foreign
from canhazgpu.cli.syntax.gpu_list import ALL
from canhazgpu.client.connection import Refused, Unreachable
from canhazgpu.client.reservations import Reservation, post
from canhazgpu.events.spelling.gpu_numbers import place_of, spell_gpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    import typer

    from canhazgpu.cli.completion import candidates

RESERVE_EPILOG = examples(
    "canhazgpu reserve --gpus 1 --duration 4h",
    'code=$(canhazgpu reserve --gpus 1) && eval "$code"  # bash, zsh',
    "set code (canhazgpu reserve --gpus 1); and eval $code  # fish",
    'set code = `canhazgpu reserve --gpus 1` && eval "$code"  # csh',
    "gpus=$(canhazgpu reserve --gpus 2 --short) && export CUDA_VISIBLE_DEVICES=$gpus",
    "canhazgpu reserve --mig 1g.10gb:2 --duration 2h",
    "canhazgpu reserve --gpu-ids 1,3 --wait 30m --note 'paper deadline'",
    "canhazgpu reserve --gpus 2 --begin 'tomorrow 9:00' --duration 4h",
    "canhazgpu reserve --gpus 2 --begin 'monday 9:00' --duration 2h --every mon,wed --until +3w",
)
EXTEND_EPILOG = examples(
    "canhazgpu extend", "canhazgpu extend 2h", "canhazgpu extend 3 2h", "canhazgpu extend --duration '2 days'"
)
RELEASE_EPILOG = examples(
    "canhazgpu release",
    "canhazgpu release 3",
    "canhazgpu release 1,3",
    "canhazgpu release --all  # including runs",
)
NOW = "now"  # The begin that needs no booking.
DISOWN_EPILOG = examples("canhazgpu disown", "canhazgpu disown 3", "canhazgpu disown --undo")


def reserve(
    *,
    gpus: arguments.Gpus = None,
    gpu_ids: arguments.GpuIds = None,
    mig: arguments.Mig = None,
    vendor: arguments.Vendor = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            help="How long, for example 30m (minutes), 4h or '2 days' (default: 8h).",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--begin",
            "-b",
            help="Book them from this time on: +2h, 9:00, 'tomorrow 9:00', 'monday 9:00' or"
            " 2026-12-01T09:00.",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            help="Book them again on other days: day, weekday, week, or days such as mon,wed (with --until).",
            metavar="DAYS",
            callback=arguments.non_empty,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            help="The last day of --every, for example 2026-12-18 or +3w (in three weeks).",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = None,
    wait: arguments.Wait = None,
    nonblock: arguments.NonBlock = False,
    note: arguments.Note = None,
    user: arguments.Label = None,
    short: Annotated[
        bool, typer.Option("--short", "-s", help="Print only the GPU numbers, such as 1,3.")
    ] = False,
    as_json: arguments.AsJson = False,
    shell: arguments.Shell = None,
) -> None:
    """Reserve GPUs for a fixed time.

    GPUs that you already use without a reservation are chosen first. If standard output is not a terminal,
    only shell code for `eval` is printed there. `canhazgpu env` prints it again.

    With --begin, the GPUs are booked: they are promised for that time, and are chosen and reserved when it
    begins. `canhazgpu bookings` lists your bookings and those of others. With --every, they are booked on
    several days: on all of them, or on none.
    """
    body = {
        "kind": "manual",
        **arguments.gpu_selection(gpus, gpu_ids, mig),
        **arguments.without_none(note=arguments.noted(note), label=user, vendor=vendor),
        **arguments.surrounding_reservation(),
    }
    if duration is not None:
        body["duration"] = arguments.checked_duration("--duration", duration)
    if every is not None or until is not None:
        _check_series(begin, every, until)
    if begin is not None and (every is not None or begin.strip().lower() != NOW):
        from canhazgpu.cli.reservations.bookings import book  # noqa: PLC0415 - few book

        if mig is not None:
            fail("--mig and --begin cannot be used together: name instances, as in --gpu-ids 0:1", USAGE)
        if wait is not None or shell is not None:
            fail(f"{'--wait' if shell is None else '--shell'} and --begin cannot be used together", USAGE)
        book(body, begin, None if every is None else (every, until or ""), as_json=as_json, short=short)
        return
    patience = arguments.wait_value(wait, nonblock=nonblock)
    if sys.__stdout__ is None:  # It was closed when Python started, and was replaced by /dev/null.
        raise OSError("standard output is closed; nothing was reserved")
    held = arguments.wait_for_reservation(body, patience)
    try:
        if as_json:
            print_json({**held.facts, "environment": held.environment})
        elif short:
            sys.stdout.write(f"{held.devices}\n")
        else:
            _print_granted(held, shell)
            arguments.mention_vendor(held, vendor or gpu_ids or mig)
        sys.stdout.flush()
    except OSError as error:
        raise _release_unprinted(held, error) from error


def _check_series(begin: str | None, every: str | None, until: str | None) -> None:
    if every is None:
        fail("--until is the last day of --every; for the end of a reservation, use --duration 2h", USAGE)
    if begin is None:
        fail("--every needs --begin, as in --begin 'tomorrow 9:00' --every weekday --until +3w", USAGE)
    if until is None:
        fail("--every needs --until, the last day: 2026-12-18, or +3w", USAGE)


def _print_granted(held: Reservation, shell: str | None) -> None:
    length = arguments.remaining_time(held.facts)
    sentence = f"Reserved {arguments.format_gpus(held.gpus)} for {length}"
    code = shells.code(held.environment, shell)
    if sys.stdout.isatty():
        sys.stdout.write(f"{sentence}\n{code}")
        return
    sys.stdout.write(code)
    sys.stdout.flush()  # Before the sentence: if the code cannot be written, nothing stays reserved.
    shells.print_beside_code(sentence)


def _release_unprinted(held: Reservation, error: OSError) -> OSError:
    """Release a reservation that could not be printed; return the error to report."""
    try:
        held.release()
    except (Refused, Unreachable) as trouble:
        return OSError(f"{error.strerror}; GPUs {held.gpus} are still reserved: {trouble}")
    return OSError(f"{error.strerror}; the reservation was released")


def extend(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Which GPUs, and how much longer: 3, 0-3, 2h, 3 2h, or 0 1 2h.",
            metavar="[GPUS]... [TIME]",
            autocompletion=candidates.gpus,
        ),
    ] = None,
    *,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            help="How much longer (default: 8h).",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = None,
    gpu_ids: arguments.GpuIds = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Extend your reservations.

    Without GPUs, all of your manual reservations are extended.
    """
    gpus, time = arguments.gpus_and_time(words or [])
    if time is not None and duration is not None:
        fail("the time is given twice: as an argument and with --duration", USAGE)
    body: dict[str, object] = arguments.gpus_field(arguments.chosen_gpus(gpus, gpu_ids))
    if time is not None or duration is not None:
        body |= {
            "duration": arguments.checked_duration(
                "TIME" if duration is None else "--duration", time or duration or ""
            )
        }
    rows = post(client(), "/v1/reservations/extend", body)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        sys.stdout.write(
            f"Extended {arguments.format_gpus(row['gpus'])}, expires in {arguments.remaining_time(row)}\n"
        )


def release(
    gpus: arguments.GpuWords = None,
    *,
    gpu_ids: arguments.GpuIds = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Include reservations of `run`; their commands keep running.")
    ] = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Release your reserved GPUs.

    Reservations of `run` are released only if you name their GPUs, or with --all.
    """
    named = arguments.chosen_gpus(gpus, gpu_ids)
    if everything and named is not None:
        fail("GPUs and --all cannot be used together", USAGE)
    everything = everything or named == ALL
    body = {"all": everything, **arguments.gpus_field(named)}
    rows = post(client(), "/v1/reservations/release", body)
    if as_json:
        print_json(rows)
        return
    print_released(rows, "you hold no reservation" if everything else "you hold no manual reservation")


def disown(
    gpus: arguments.GpuWords = None,
    *,
    gpu_ids: arguments.GpuIds = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo: the use is yours after all.")] = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Declare that presumed use of your GPUs is not yours.

    The use that `status` marks as presumed then counts as a violation.
    """
    named = arguments.gpus_field(arguments.chosen_gpus(gpus, gpu_ids))
    rows = post(client(), "/v1/reservations/disown", {"undo": undo, **named})
    if as_json:
        print_json(rows)
        return
    if not rows:
        nothing = "nothing was disowned" if undo else "no use of your GPUs is presumed to be yours"
        sys.stdout.write(f"Nothing to {'undo' if undo else 'disown'}: {nothing}\n")
    for row in rows:
        users = ", ".join(foreign(user) for user in row["users"] or ())
        said = f"the use by {users} is not yours" if users else "the use counts as yours again"
        sys.stdout.write(f"GPU {spell_gpu(row['gpu'])}: {said}\n")


def print_released(rows: list[dict[str, object]], nothing: str) -> None:
    """Print the released GPUs, or that there were none."""
    gpus = sorted((gpu for row in rows for gpu in row["gpus"]), key=place_of)  # type: ignore[attr-defined]
    if not gpus:
        sys.stdout.write(f"Nothing to release: {nothing}\n")
        return
    sys.stdout.write(f"Released {arguments.format_gpus(gpus)}\n")
    for row in rows:
        if row["kind"] == "run" and not row["ended"]:
            where = arguments.numbers(row["gpus"])
            sys.stdout.write(f"The command on {where} keeps running without a reservation\n")
