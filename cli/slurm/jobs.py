"""The job that slurmd runs a script for, from the variables that it sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.jobs.notes import Job
from canhazgpu.cli.output import fail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEVICE = "/dev/nvidia"
FROM_SLURMD = "run this from slurmd: SLURM_JOB_ID, SLURM_JOB_UID and SLURM_JOB_GPUS say which job it is"


def job_of(environ: Mapping[str, str], files: Sequence[str]) -> Job | None:
    """Return the job that slurmd runs a script for, or None if it has no GPU.

    SLURM_JOB_GPUS are places in Slurm's list of device files; `files` is that list, if they are not numbered
    like that.
    """
    numbers = [word for word in environ.get("SLURM_JOB_GPUS", "").split(",") if word]
    if not numbers:
        return None
    try:
        places = [int(word) for word in numbers]
        devices = [int(files[place].removeprefix(DEVICE)) if files else place for place in places]
        return Job(_id(environ), int(environ["SLURM_JOB_UID"]), tuple(sorted(devices)))
    except IndexError:
        fail(f"slurm.devices has {len(files)} device files, but SLURM_JOB_GPUS is {','.join(numbers)}", USAGE)
    except (KeyError, ValueError):
        fail(FROM_SLURMD, USAGE)


def _id(environ: Mapping[str, str]) -> str:
    return str(int(environ["SLURM_JOB_ID"]))


def id_of(environ: Mapping[str, str]) -> str:
    """Return the id of the job that slurmd runs a script for."""
    try:
        return _id(environ)
    except (KeyError, ValueError):
        fail(FROM_SLURMD, USAGE)
