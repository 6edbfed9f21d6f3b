"""The prolog: reserves the GPUs of a job, or sends the job back to Slurm's queue with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.jobs import held, reconcile
from canhazgpu.cli.jobs.system_log import warn
from canhazgpu.cli.slurm import scheduler
from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.events.reservations import SLURM

if TYPE_CHECKING:
    from canhazgpu.cli.jobs.notes import Job, JobNotes
    from canhazgpu.config.integrations.slurm import Slurm

START, DRAIN = 0, 1  # Exit codes, as Slurm understands them.


def prolog(client: Client, job: Job, notes: JobNotes, settings: Slurm, node: str) -> int:
    """Return the exit code: 0 if the job may start or was sent back, 1 if Slurm is to drain the node."""
    notes.add(job)
    try:
        reconcile.reserve(client, job, notes, settings.wait, scheduler.on_node(node))
    except Unreachable as gone:
        return _without_service(job, notes, settings, gone)
    except Refused as refused:
        notes.remove(job.id)
        if refused.status != held.CONFLICT:  # Nothing of the job's: this node is not set up correctly.
            warn(SLURM, f"job {job.id}: {refused}: the node is drained")
            return DRAIN
        return _send_back(job, str(refused))
    return START


def _without_service(job: Job, notes: JobNotes, settings: Slurm, gone: Unreachable) -> int:
    if settings.unreachable == "drain":
        notes.remove(job.id)
        warn(SLURM, f"job {job.id}: {gone}: the node is drained")
        return DRAIN
    text = f"its GPUs are not reserved yet: {gone.reason}"
    warn(SLURM, f"job {job.id} starts, but {text}; {gone.remedy}")
    try:
        scheduler.comment(job.id, text)
    except scheduler.SlurmFailed as failed:
        warn(SLURM, f"job {job.id}: {failed}")
    return START


def _send_back(job: Job, reason: str) -> int:
    try:
        done = scheduler.send_back(job.id, reason)
    except scheduler.SlurmFailed as failed:
        warn(SLURM, f"job {job.id}: {reason}; it cannot be requeued ({failed}): the node is drained")
        return DRAIN
    warn(SLURM, f"job {job.id} is {done}: {reason}")
    return START
