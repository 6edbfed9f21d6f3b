"""The jobs of this node, as they are noted when they begin, until they end."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

from canhazgpu.cli.jobs.system_log import warn

FOLDER_MODE = 0o700
SETTLED = 60.0  # Seconds after which the beginning of a job is over.


class Job(msgspec.Struct, frozen=True):
    """A job with GPUs: its id (each task of an array has its own), its user, and its GPUs.

    `devices` are the numbers of device files, `gpus` are indices. A job has one of both.
    """

    id: str
    uid: int
    devices: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    kind: str = "slurm"


class JobNotes:
    """Files that say which jobs are on this node: from the prolog to the epilog, and not after a boot."""

    def __init__(self, folder: str) -> None:
        """Use this directory, which only root can read."""
        self._folder = Path(folder)

    def add(self, job: Job) -> None:
        """Note a job, or warn that it cannot be noted."""
        new = self._folder / f".{job.id}.{os.getpid()}"
        try:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(job))
            new.rename(self._folder / job.id)
        except OSError as error:
            warn(job.kind, f"{job.kind}.jobs_dir: job {job.id} cannot be recorded: {error.strerror}")

    def remove(self, name: str) -> bool:
        """Forget a job; return whether it was noted."""
        try:
            (self._folder / name).unlink()
        except OSError:
            return False
        return True

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

    def settled(self) -> set[str]:
        """Return the ids of the jobs whose beginning is over."""
        return {job.id for job, age in self.ages().items() if age >= SETTLED}
