"""The prologue: reserves the GPUs of a job, or says that the job has to go back to the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.jobs import reconcile
from canhazgpu.cli.jobs.system_log import warn
from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.events.reservations import PBS

if TYPE_CHECKING:
    from canhazgpu.cli.jobs.notes import Job, JobNotes
    from canhazgpu.cli.jobs.reconcile import OnNode
    from canhazgpu.config.integrations.pbs import Pbs

# Exit codes, as Torque understands them: 1 would end the job, all others send it back to the queue.
START, REQUEUE = 0, 2


def prologue(client: Client, job: Job, notes: JobNotes, settings: Pbs, on_node: OnNode) -> int:
    """Return the exit code: 0 if the job may start, 2 if it is to be requeued."""
    notes.add(job)
    try:
        reconcile.reserve(client, job, notes, settings.wait, on_node)
    except Unreachable as gone:
        if settings.unreachable == "allow":
            warn(
                PBS,
                f"job {job.id} starts, but its GPUs are not reserved yet: {gone.reason}; {gone.remedy}",
            )
            return START
        return _requeue(job, notes, str(gone))
    except Refused as refused:
        return _requeue(job, notes, str(refused))
    return START


def _requeue(job: Job, notes: JobNotes, reason: str) -> int:
    notes.remove(job.id)
    warn(PBS, f"job {job.id} goes back to the queue: {reason}")
    return REQUEUE
