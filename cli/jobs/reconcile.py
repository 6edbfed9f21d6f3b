"""Makes the reservations of a scheduler's jobs those of the jobs that are on this node.

Jobs are on the node from the prolog to the epilog. What remains of others, after a boot or an epilog that did
not reach the service, is released. A job that started while the service was away gets its reservation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.jobs import held
from canhazgpu.cli.jobs.notes import SETTLED
from canhazgpu.cli.jobs.system_log import warn
from canhazgpu.client.connection import Client, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from canhazgpu.cli.jobs.notes import Job, JobNotes

    # Returns which of these jobs the scheduler has on this node, or None if it does not tell.
    OnNode = Callable[[set[str]], set[str] | None]


def reserve(client: Client, job: Job, notes: JobNotes, patience: float, on_node: OnNode) -> None:
    """Reserve the GPUs of a job that begins, and again if only jobs were in the way that have ended.

    Raises Refused and Unreachable.
    """
    try:
        held.reserve(client, job, patience)
    except Refused as refused:
        if refused.status != held.CONFLICT or not release_ended(client, job.kind, notes, on_node):
            raise
        held.reserve(client, job, patience)


def reconcile(client: Client, kind: str, notes: JobNotes, on_node: OnNode) -> tuple[list[str], list[str]]:
    """Return the jobs whose reservations were released, and those that got one.

    Raises Refused and Unreachable.
    """
    _forget_ended(notes, on_node)
    released = release_ended(client, kind, notes, on_node)
    reserved = []
    have = held.jobs(client, kind)
    for job, age in notes.ages().items():
        if job.id in have or age < SETTLED:
            continue
        try:
            if not held.reserve_now(client, job):
                continue
        except Refused as refused:
            warn(kind, f"job {job.id} runs without a reservation: {refused}")
            continue
        if notes.has(job):
            reserved.append(job.id)
        else:  # It has ended in the meantime.
            held.release(client, kind, job.id)
    return released, reserved


def release_ended(client: Client, kind: str, notes: JobNotes, on_node: OnNode) -> list[str]:
    """Release what jobs hold that are not on this node; return them. Raises Refused and Unreachable."""
    former = held.jobs(client, kind) - {job.id for job in notes.ages()}
    if former:
        former -= on_node(former) or set()
    return sorted(job for job in former if held.release(client, kind, job))


def _forget_ended(notes: JobNotes, on_node: OnNode) -> None:
    """Forget jobs that the scheduler no longer has here, although their epilog did not run."""
    old = notes.settled()
    here = on_node(old) if old else None
    for job in old - here if here is not None else ():
        notes.remove(job)
