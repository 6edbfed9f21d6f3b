"""The jobs of this node: from slurmd's variables, and as the prolog notes them until the epilog."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import fail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER_MODE = 0o700
DEVICE = "/dev/nvidia"
FROM_SLURMD = "run this from slurmd: SLURM_JOB_ID, SLURM_JOB_UID and SLURM_JOB_GPUS say which job it is"


class Job(msgspec.Struct, frozen=True):
    """A job with GPUs: its id (each task of an array has its own), its user, and its device files."""

    id: str
    uid: int
    devices: tuple[int, ...]


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
        fail(
            "run this from slurmd: SLURM_JOB_ID, SLURM_JOB_UID and SLURM_JOB_GPUS say which job it is", USAGE
        )


def _id(environ: Mapping[str, str]) -> str:
    return str(int(environ["SLURM_JOB_ID"]))


def id_of(environ: Mapping[str, str]) -> str:
    """Return the id of the job that slurmd runs a script for."""
    try:
        return _id(environ)
    except (KeyError, ValueError):
        fail(FROM_SLURMD, USAGE)


class JobNotes:
    """Files that say which jobs are on this node: from the prolog to the epilog, and not after a boot."""

    def __init__(self, folder: str) -> None:
        """Use this directory, which only root can read."""
        self._folder = Path(folder)

    def add(self, job: Job) -> None:
        """Note a job. Raises OSError."""
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        new = self._folder / f".{job.id}.{os.getpid()}"
        new.write_bytes(msgspec.json.encode(job))
        new.rename(self._folder / job.id)

    def remove(self, name: str) -> None:
        """Forget a job, noted or not."""
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    def has(self, job: Job) -> bool:
        """Return whether a job is still noted."""
        return (self._folder / job.id).exists()

    def ages(self) -> dict[Job, float]:
        """Return the noted jobs, and for how many seconds they have been."""
        found = {}
        for path in self._folder.glob("[0-9]*"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                job = msgspec.json.decode(path.read_bytes(), type=Job)
                found[job] = time.time() - path.stat().st_mtime
        return found
