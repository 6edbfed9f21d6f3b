"""The job that slurmd runs a script for, from the variables that it sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.jobs.notes import Job
from canhazgpu.cli.output import fail
from canhazgpu.events.spelling.gpu_numbers import read_instance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEVICE = "/dev/nvidia"
NOT_BOTH = "a job has whole GPUs or MIG instances, not both"
FROM_SLURMD = "run this from slurmd: SLURM_JOB_ID, SLURM_JOB_UID and SLURM_JOB_GPUS say which job it is"


def job_of(environ: Mapping[str, str], files: Sequence[str]) -> Job | None:
    """Return the job that slurmd runs a script for, or None if it has no GPU.

    SLURM_JOB_GPUS are places in Slurm's list of device files; `files` is that list, if they are not numbered
    like that. It has MIG instances as `0:1`.
    """
    numbers = [word for word in environ.get("SLURM_JOB_GPUS", "").split(",") if word]
    if not numbers:
        return None
    try:
        places = [int(word) for word in numbers]
        named = [files[place] if files else f"{DEVICE}{place}" for place in places]
        instances = sorted(found for one in named if (found := read_instance(one)) is not None)
        if instances and len(instances) < len(named):
            fail(f"SLURM_JOB_GPUS is {','.join(numbers)}: these are {', '.join(named)}; {NOT_BOTH}", USAGE)
        devices = [] if instances else sorted(int(one.removeprefix(DEVICE)) for one in named)
        return Job(_id(environ), int(environ["SLURM_JOB_UID"]), tuple(devices), tuple(instances))
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
