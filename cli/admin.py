"""`canhazgpu admin`: which GPUs are handed out, and whose reservations end; for administrators."""

import sys
from typing import Annotated

import typer

from canhazgpu.cli import asking
from canhazgpu.cli.reserve import say_released
from canhazgpu.cli.words import USAGE, client, examples, fail
from canhazgpu.client.reservations import post
from canhazgpu.events.text import printable

app = typer.Typer(
    help="Say which GPUs are handed out, and end reservations; for root and the administrators' group.",
    epilog=examples(
        "canhazgpu admin init --gpus 8",
        "canhazgpu admin drain 3 --reason 'ECC errors'",
        "canhazgpu admin release --user bob",
    ),
    rich_markup_mode=None,
)
Force = Annotated[bool, typer.Option("--force", help="End reservations on GPUs that are left out.")]
Targets = Annotated[str, typer.Argument(metavar="GPUS", help="GPUs, as 1,3.")]
NO_GPUS = "say which GPUs, as 1,3"


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context, *, gpus: asking.Gpus = None, gpu_ids: asking.GpuIds = None, force: Force = False
) -> None:
    """Say which GPUs are handed out (`canhazgpu admin --gpus 8`), or do one of the commands below."""
    if context.invoked_subcommand is None:
        if gpus is None and gpu_ids is None:
            fail("no command given; `canhazgpu admin --help` lists them", USAGE)
        init(gpus=gpus, gpu_ids=gpu_ids, force=force)
    elif gpus is not None or gpu_ids is not None or force:
        fail("put the options behind the command", USAGE)


@app.command("init", epilog=examples("canhazgpu admin init", "canhazgpu admin init --gpu-ids 0,1,2 --force"))
def init(*, gpus: asking.Gpus = None, gpu_ids: asking.GpuIds = None, force: Force = False) -> None:
    """Hand out the first GPUs, or these; all that are found when none are named."""
    demand = {} if gpus is None and gpu_ids is None else asking.which(gpus, gpu_ids)
    reply = post(client(), "/v1/admin/manage", {**demand, "force": force})
    sys.stdout.write(f"Managed: {asking.spell_gpus(reply['managed'])}\n")
    if reply["released"]:
        sys.stdout.write(f"Released by force: {asking.spell_gpus(reply['released'])}\n")


@app.command("drain", epilog=examples("canhazgpu admin drain 3 --reason 'fan is broken'"))
def drain(
    gpus: Targets,
    *,
    reason: Annotated[
        str | None, typer.Option("--reason", "-r", help="Why; `status` shows it.", callback=asking.words)
    ] = None,
) -> None:
    """Keep GPUs out of allocation; who has them keeps them."""
    reply = post(client(), "/v1/admin/drain", {"gpus": _named(gpus), **asking.optional(reason=reason)})
    sys.stdout.write(f"Drained {asking.spell_gpus(reply['changed'])} ({printable(reply['reason'], 200)})\n")


@app.command("undrain", epilog=examples("canhazgpu admin undrain 3"))
def undrain(gpus: Targets) -> None:
    """Give GPUs back to allocation."""
    reply = post(client(), "/v1/admin/undrain", {"gpus": _named(gpus)})
    sys.stdout.write(f"Undrained {asking.spell_gpus(reply['changed'])}\n")


@app.command(
    "release", epilog=examples("canhazgpu admin release --gpu-ids 1,3", "canhazgpu admin release --user bob")
)
def release(
    *,
    gpu_ids: asking.GpuIds = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Everything this user holds.", callback=asking.name)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everybody's.")] = False,
) -> None:
    """End anybody's reservations; their holders are told."""
    if sum([gpu_ids is not None, user is not None, everything]) != 1:
        fail("say one of --gpu-ids, --user and --all", USAGE)
    demand = {"all": everything, **asking.optional(user=user), **asking.named(gpu_ids)}
    say_released(post(client(), "/v1/admin/release", demand), "nobody holds one")


def _named(text: str) -> list[int]:
    return asking.indices(text, "GPUS") if text.strip() else fail(NO_GPUS, USAGE)
