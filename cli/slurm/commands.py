"""`canhazgpu slurm`: prolog, epilog and reconcile, which Slurm runs as root on each node."""

import os
import socket
import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli.arguments import non_empty
from canhazgpu.cli.exit_codes import USAGE, CommandEnded
from canhazgpu.cli.output import client, examples, fail
from canhazgpu.client.connection import BadSettings, Refused, Unreachable

KIND = "slurm"
app = typer.Typer(
    help="Reserve the GPUs of Slurm jobs; Slurm runs these commands as root on each node.",
    no_args_is_help=False,
    epilog=examples("canhazgpu install slurm", "canhazgpu slurm reconcile"),
    rich_markup_mode=None,
)
Node = Annotated[
    str | None,
    typer.Option(
        "--node",
        help="Slurm's name for this node (default: $SLURMD_NODENAME, or the host's name).",
        metavar="NAME",
        callback=non_empty,
    ),
]


@app.command("prolog", epilog=examples("canhazgpu slurm prolog"))
def prolog() -> None:
    """Reserve the GPUs of the job for its user.

    If they are not free, the job is requeued, and its AdminComment says why. A job that cannot be requeued
    is cancelled. The exit code is 1 only if Slurm should drain the node.
    """
    from canhazgpu.cli.jobs.notes import JobNotes  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.cli.slurm.jobs import job_of  # noqa: PLC0415
    from canhazgpu.cli.slurm.prolog import prolog as run  # noqa: PLC0415

    settings = _settings()
    job = job_of(os.environ, settings.devices)
    if job is not None:
        raise CommandEnded(run(client(), job, JobNotes(settings.jobs_dir), settings, node_name(None)))


@app.command("epilog", epilog=examples("canhazgpu slurm epilog"))
def epilog() -> None:
    """Release the GPUs of the job.

    The exit code is 0 even if the service does not answer; `reconcile` then releases them.
    """
    from canhazgpu.cli.jobs import held  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.cli.jobs.notes import JobNotes  # noqa: PLC0415
    from canhazgpu.cli.jobs.system_log import warn  # noqa: PLC0415
    from canhazgpu.cli.slurm.jobs import id_of  # noqa: PLC0415

    job = id_of(os.environ)
    try:
        JobNotes(_settings(or_default=True).jobs_dir).remove(job)
        held.release(client(), KIND, job)
    except (Refused, Unreachable, BadSettings) as trouble:
        warn(KIND, f"job {job} has ended, but its GPUs are still reserved: {trouble}")


@app.command("reconcile", epilog=examples("canhazgpu slurm reconcile"))
def reconcile(*, node: Node = None) -> None:
    """Release the GPUs of ended jobs, and reserve those that running jobs lack.

    Slurm runs this once a minute as HealthCheckProgram. After a reboot, the node has no jobs.
    """
    from canhazgpu.cli.jobs.notes import JobNotes  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.cli.jobs.reconcile import reconcile as run  # noqa: PLC0415
    from canhazgpu.cli.slurm.scheduler import on_node  # noqa: PLC0415

    notes = JobNotes(_settings().jobs_dir)
    released, reserved = run(client(), KIND, notes, on_node(node_name(node)))
    for job in released:
        sys.stdout.write(f"Released the GPUs of job {job}, which is not on this node\n")
    for job in reserved:
        sys.stdout.write(f"Reserved the GPUs of job {job}\n")


def node_name(named: str | None) -> str:
    """Return Slurm's name of this node."""
    return named or os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]


def _settings(*, or_default: bool = False) -> Any:
    """Return the settings. If they cannot be used, exit, or with `or_default` use the defaults."""
    from canhazgpu.config.integrations.slurm import Slurm  # noqa: PLC0415
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy, as is the next one

    try:
        return load().settings.slurm
    except ConfigError as error:
        return Slurm() if or_default else fail(str(error), USAGE)
