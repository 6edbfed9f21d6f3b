"""`canhazgpu admin`: choose which GPUs are managed, drain GPUs, and end reservations; administrators only."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from canhazgpu.cli import arguments
from canhazgpu.cli.completion import candidates
from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.options import user_option
from canhazgpu.cli.output import client, examples, fail, print_json
from canhazgpu.cli.reservations.reserve import print_released
from canhazgpu.cli.syntax.gpu_list import ALL
from canhazgpu.client.reservations import post
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_ranges import name_gpus

if TYPE_CHECKING:
    from canhazgpu.cli.syntax.gpu_list import GpuNames

app = typer.Typer(
    help="Manage GPUs and end reservations (administrators only).",
    epilog=examples(
        "canhazgpu admin init --gpus 8",
        "canhazgpu admin drain 3 --reason 'ECC errors'",
        "canhazgpu admin release --user bob",
    ),
    rich_markup_mode=None,
)
First = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        "-g",
        help="Manage only the first NUMBER GPUs.",
        metavar="NUMBER",
        parser=arguments.integer,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Release reserved GPUs that will no longer be managed.")]
Exactly = Annotated[
    str | None,
    typer.Option(
        "--gpu-ids",
        "-G",
        help=f"Manage only these GPUs: {arguments.WHICH}.",
        metavar="GPUS",
        callback=arguments.non_empty,
        autocompletion=candidates.gpus,
    ),
]
Targets = Annotated[
    list[str],
    typer.Argument(metavar="GPUS...", help=f"Which GPUs: {arguments.WHICH}.", autocompletion=candidates.gpus),
]
NO_GPUS = "no GPUs given: name them, for example 1,3"


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    *,
    gpus: Annotated[int | None, typer.Option("--gpus", "-g", parser=arguments.integer, hidden=True)] = None,
    gpu_ids: Annotated[
        str | None, typer.Option("--gpu-ids", "-G", callback=arguments.non_empty, hidden=True)
    ] = None,
    force: Annotated[bool, typer.Option("--force", hidden=True)] = False,
) -> None:
    """Run `init` when options such as `canhazgpu admin --gpus 8` are given without a command."""
    if context.invoked_subcommand is None:
        if gpus is None and gpu_ids is None:
            fail("no command given; `canhazgpu admin --help` lists them", USAGE)
        init(gpus=gpus, gpu_ids=gpu_ids, force=force)
    elif gpus is not None or gpu_ids is not None or force:
        fail("put the options after the command", USAGE)


@app.command("init", epilog=examples("canhazgpu admin init", "canhazgpu admin init --gpu-ids 0,1,2 --force"))
def init(
    *,
    gpus: First = None,
    gpu_ids: Exactly = None,
    force: Force = False,
    as_json: arguments.AsJson = False,
) -> None:
    """Set which GPUs users can reserve.

    Without --gpus and --gpu-ids, they can reserve all GPUs of this host.
    """
    everything = gpus is None and (gpu_ids is None or gpu_ids.strip().lower() == ALL)
    body = {} if everything else arguments.gpu_selection(gpus, gpu_ids)
    reply = post(client(), "/v1/admin/manage", {**body, "force": force})
    if as_json:
        print_json(reply)
        return
    sys.stdout.write(f"Managed: {arguments.format_gpus(reply['managed'])}\n")
    if reply["released"]:
        sys.stdout.write(f"Released by force: {arguments.format_gpus(reply['released'])}\n")


@app.command(
    "drain",
    epilog=examples(
        "canhazgpu admin drain 3 --reason 'fan is broken'",
        "canhazgpu admin drain all --begin 'saturday 8:00' --duration 4h --reason 'new cooler'",
    ),
)
def drain(
    gpus: Targets,
    *,
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason", "-r", help="The reason, shown by `status`.", metavar="TEXT", callback=arguments.words
        ),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--begin",
            "-b",
            help="Plan it for later: +2h, 'saturday 8:00' or 2026-12-05T08:00 (with --duration).",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            help="How long, for example 4h (with --begin).",
            metavar="TIME",
            callback=arguments.non_empty,
        ),
    ] = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Stop allocating GPUs; existing reservations continue.

    With --begin and --duration, it is maintenance: whoever holds the GPUs then, or has booked them, is
    notified now, before it begins and when it begins. `canhazgpu bookings` lists it, and
    `canhazgpu cancel ID` ends it.
    """
    if begin is not None or duration is not None:
        _plan(_named(gpus), reason, begin, duration, as_json=as_json)
        return
    reply = post(client(), "/v1/admin/drain", {"gpus": _named(gpus), **arguments.without_none(reason=reason)})
    if as_json:
        print_json(reply)
        return
    sys.stdout.write(
        f"Drained {arguments.format_gpus(reply['changed'])} ({printable(reply['reason'], 200)})\n"
    )


def _plan(
    gpus: "GpuNames", reason: str | None, begin: str | None, duration: str | None, *, as_json: bool
) -> None:
    from canhazgpu.cli.local_times import begin_time, rfc3339, zone_for_service  # noqa: PLC0415
    from canhazgpu.cli.reservations.bookings import spell_booking  # noqa: PLC0415 - few plan maintenance

    if begin is None or duration is None:
        fail("maintenance needs both --begin and --duration", USAGE)
    try:
        moment = rfc3339(begin_time(begin))
    except (ValueError, OverflowError) as error:
        fail(f"--begin: {error}", USAGE)
    lasts = arguments.checked_duration("--duration", duration)
    body = {"gpus": gpus, "begin": moment, "duration": lasts, "zone": zone_for_service()}
    row = post(client(), "/v1/admin/maintenance", {**body, **arguments.without_none(reason=reason)})
    if as_json:
        print_json(row)
        return
    sys.stdout.write(f"Maintenance of {spell_booking(row)}: {row['id']}\n")
    for one in row["concerned"]:
        what = f"booking {one['booking']}" if one["booking"] else name_gpus(one["gpus"])
        sys.stdout.write(f"Notified: {printable(one['user'], 64)} ({what})\n")


@app.command("undrain", epilog=examples("canhazgpu admin undrain 3"))
def undrain(gpus: Targets, *, as_json: arguments.AsJson = False) -> None:
    """Make drained GPUs available again."""
    reply = post(client(), "/v1/admin/undrain", {"gpus": _named(gpus)})
    if as_json:
        print_json(reply)
        return
    sys.stdout.write(f"Undrained {arguments.format_gpus(reply['changed'])}\n")


@app.command("release", epilog=examples("canhazgpu admin release 1,3", "canhazgpu admin release --user bob"))
def release(
    gpus: arguments.GpuWords = None,
    *,
    gpu_ids: arguments.GpuIds = None,
    user: Annotated[str | None, user_option("Release all GPUs of this user.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Release the GPUs of all users.")] = False,
    as_json: arguments.AsJson = False,
) -> None:
    """End reservations of any user; the users are notified."""
    named = arguments.chosen_gpus(gpus, gpu_ids)
    if sum([named is not None, user is not None, everything]) != 1:
        fail("specify exactly one of GPUs, --user and --all", USAGE)
    body = {
        "all": everything or named == ALL,
        **arguments.without_none(user=user),
        **arguments.gpus_field(named),
    }
    rows = post(client(), "/v1/admin/release", body)
    if as_json:
        print_json(rows)
        return
    print_released(rows, "there is no matching reservation")


def _named(words: list[str]) -> "GpuNames":
    text = ",".join(words)
    return arguments.indices(text, "GPUS") if text.strip() else fail(NO_GPUS, USAGE)
