"""`canhazgpu pbs`: prologue, epilogue and reconcile, which PBS runs as root on each node."""

import os
import sys
from typing import Annotated, Any

import typer

from canhazgpu.cli.arguments import indices, non_empty
from canhazgpu.cli.exit_codes import USAGE, CommandEnded
from canhazgpu.cli.output import client, examples, fail
from canhazgpu.client.connection import BadSettings, Refused, Unreachable

KIND = "pbs"
app = typer.Typer(
    help="Reserve the GPUs of PBS and Torque jobs; PBS runs these commands as root on each node.",
    no_args_is_help=False,
    epilog=examples("canhazgpu install pbs", "canhazgpu pbs reconcile"),
    rich_markup_mode=None,
)
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        help="What pbs_mom passes: the id of the job, its user, its group, and others, which are ignored.",
        metavar="ARGUMENTS",
    ),
]
GpuIds = Annotated[
    str | None,
    typer.Option(
        "--gpu-ids",
        help="The GPUs of the job, by index (default: the lines of $PBS_GPUFILE).",
        metavar="GPUS",
        callback=non_empty,
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        help="The GPUs of the job by device file: 0 means /dev/nvidia0.",
        metavar="N,N",
        callback=non_empty,
    ),
]
Jobs = Annotated[
    str | None,
    typer.Option(
        "--jobs",
        help="The jobs that are on this node (default: the files in mom_priv/jobs).",
        metavar="JOB,JOB",
    ),
]


@app.command("prologue", epilog=examples("canhazgpu pbs prologue 4711.head alice staff"))
def prologue(arguments: Arguments = None, *, gpu_ids: GpuIds = None, devices: Devices = None) -> None:
    """Reserve the GPUs of a job for its user.

    The exit code is 0 if the job may start. It is 2 if the job has to go back to the queue because somebody
    else has its GPUs; the reason is on standard error and in the system log.
    """
    from canhazgpu.cli.jobs.notes import JobNotes  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.cli.pbs.jobs import assigned_gpus, id_of, job_of  # noqa: PLC0415
    from canhazgpu.cli.pbs.mom import among, with_file  # noqa: PLC0415
    from canhazgpu.cli.pbs.prologue import prologue as run  # noqa: PLC0415

    words = arguments or []
    settings = _settings()
    notes = JobNotes(settings.jobs_dir)
    files = _numbers("--devices", devices)
    gpus = _indices(gpu_ids)
    here = among(set())  # Others than those that are noted: the hook names the rest to `reconcile`.
    if files is None and gpus is None:
        gpus = assigned_gpus(id_of(words), os.environ, settings.home)
        here = with_file(settings.home)
    job = job_of(words, gpus or [], files or [])
    if job is not None:
        raise CommandEnded(run(client(), job, notes, settings, here))


@app.command("epilogue", epilog=examples("canhazgpu pbs epilogue 4711.head alice staff"))
def epilogue(arguments: Arguments = None) -> None:
    """Release the GPUs of a job.

    The exit code is 0 even if the service does not answer; `reconcile` then releases them.
    """
    from canhazgpu.cli.jobs import held  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.cli.jobs.notes import JobNotes  # noqa: PLC0415
    from canhazgpu.cli.jobs.system_log import warn  # noqa: PLC0415
    from canhazgpu.cli.pbs.jobs import id_of  # noqa: PLC0415
    from canhazgpu.cli.syntax.job_id import job_id  # noqa: PLC0415

    job = job_id(id_of(arguments or []))
    noted = JobNotes(_settings(or_default=True).jobs_dir).remove(job)
    try:
        held.release(client(), KIND, job)
    except (Refused, Unreachable, BadSettings) as trouble:
        if noted:  # The others had no GPUs.
            warn(KIND, f"job {job} has ended, but its GPUs are still reserved: {trouble}")


@app.command("reconcile", epilog=examples("canhazgpu pbs reconcile", "canhazgpu pbs reconcile --startup"))
def reconcile(
    *,
    jobs: Jobs = None,
    startup: Annotated[
        bool,
        typer.Option(
            "--startup", help="Only release the GPUs of jobs that are not recorded, as after a reboot."
        ),
    ] = False,
) -> None:
    """Release the GPUs of ended jobs, and reserve those that running jobs lack.

    pbs_mom runs this every minute or two. After a reboot, the node has no jobs.
    """
    from canhazgpu.cli.jobs.notes import JobNotes  # noqa: PLC0415 - heavy, as are the next ones
    from canhazgpu.cli.jobs.reconcile import reconcile as run  # noqa: PLC0415
    from canhazgpu.cli.pbs.mom import among, with_file  # noqa: PLC0415
    from canhazgpu.cli.syntax.job_id import job_id  # noqa: PLC0415

    settings = _settings()
    notes = JobNotes(settings.jobs_dir)
    if jobs is not None:
        here = among({job_id(job) for job in jobs.split(",") if job})
    elif startup:
        here = among({job.id for job in notes.ages()})
    else:
        here = with_file(settings.home)
    released, reserved = run(client(), KIND, notes, here)
    for job in released:
        sys.stdout.write(f"Released the GPUs of job {job}, which is not on this node\n")
    for job in reserved:
        sys.stdout.write(f"Reserved the GPUs of job {job}\n")


def _indices(text: str | None) -> list[int] | None:
    if text is None:
        return None
    found = [index for index in indices(text, "--gpu-ids") if isinstance(index, int)]
    return found or fail("--gpu-ids: name GPUs by index, as in 0,1 or 0-1", USAGE)


def _numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.isascii() and word.isdecimal() and len(word) <= 6 for word in words):  # noqa: PLR2004
        fail(f"{option}: use numbers separated by commas, as in 0,1", USAGE)
    return sorted({int(word) for word in words})


def _settings(*, or_default: bool = False) -> Any:
    """Return the settings. If they cannot be used, exit, or with `or_default` use the defaults."""
    from canhazgpu.config.integrations.pbs import Pbs  # noqa: PLC0415
    from canhazgpu.config.load import ConfigError, load  # noqa: PLC0415 - heavy, as is the next one

    try:
        return load().settings.pbs
    except ConfigError as error:
        return Pbs() if or_default else fail(str(error), USAGE)
