"""The prolog: reserves the GPUs of a job, or sends the job back to Slurm's queue with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.slurm import held, reconcile, scheduler
from canhazgpu.cli.slurm.system_log import warn
from canhazgpu.client.connection import Client, Refused, Unreachable

if TYPE_CHECKING:
    from canhazgpu.cli.slurm.jobs import Job, JobNotes
    from canhazgpu.config.slurm import Slurm

START, DRAIN = 0, 1  # Exit codes, as Slurm understands them.
CONFLICT = 409


def prolog(client: Client, job: Job, notes: JobNotes, settings: Slurm, node: str) -> int:
    """Return the exit code: 0 if the job may start or was sent back, 1 if Slurm is to drain the node."""
    _note(job, notes)
    try:
        _reserve(client, job, notes, settings, node)
    except Unreachable as gone:
        return _without_service(job, notes, settings, gone)
    except Refused as refused:
        notes.remove(job.id)
        if refused.status != CONFLICT:  # Nothing of the job's: this node is not set up correctly.
            warn(f"job {job.id}: {refused}: the node is drained")
            return DRAIN
        return _send_back(job, str(refused))
    return START


def _reserve(client: Client, job: Job, notes: JobNotes, settings: Slurm, node: str) -> None:
    """Reserve, and again if only jobs were in the way that are no longer on this node."""
    try:
        held.reserve(client, job, settings.wait)
    except Refused as refused:
        if refused.status != CONFLICT or not reconcile.release_ended(client, notes, node):
            raise
        held.reserve(client, job, settings.wait)


def _note(job: Job, notes: JobNotes) -> None:
    try:
        notes.add(job)
    except OSError as error:
        warn(f"slurm.jobs_dir: job {job.id} cannot be noted: {error.strerror}")


def _without_service(job: Job, notes: JobNotes, settings: Slurm, gone: Unreachable) -> int:
    if settings.unreachable == "drain":
        notes.remove(job.id)
        warn(f"job {job.id}: {gone}: the node is drained")
        return DRAIN
    text = f"its GPUs are not reserved yet: {gone.reason}"
    warn(f"job {job.id} starts, but {text}; {gone.remedy}")
    try:
        scheduler.comment(job.id, text)
    except scheduler.SlurmFailed as failed:
        warn(f"job {job.id}: {failed}")
    return START


def _send_back(job: Job, reason: str) -> int:
    try:
        done = scheduler.send_back(job.id, reason)
    except scheduler.SlurmFailed as failed:
        warn(f"job {job.id}: {reason}; it cannot be requeued ({failed}): the node is drained")
        return DRAIN
    warn(f"job {job.id} is {done}: {reason}")
    return START
