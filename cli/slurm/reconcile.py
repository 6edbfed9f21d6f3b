"""Makes the reservations of Slurm's jobs those of the jobs that are on this node.

Jobs are on the node from the prolog to the epilog. What remains of others, after a boot or an epilog that did
not reach the service, is released. A job that started while the service was away gets its reservation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from canhazgpu.cli.slurm import held, scheduler
from canhazgpu.cli.slurm.system_log import warn
from canhazgpu.client.connection import Client, Refused

if TYPE_CHECKING:
    from canhazgpu.cli.slurm.jobs import JobNotes

SETTLED = 60.0  # Seconds after which a prolog has ended.


def reconcile(client: Client, notes: JobNotes, node: str) -> tuple[list[str], list[str]]:
    """Return the jobs whose reservations were released, and those that got one.

    Raises Refused and Unreachable.
    """
    _forget_ended(notes, node)
    released = release_ended(client, notes, node)
    reserved = []
    have = held.jobs(client)
    for job, age in notes.ages().items():
        if job.id in have or age < SETTLED:
            continue
        try:
            if not held.reserve_now(client, job):
                continue
        except Refused as refused:
            warn(f"job {job.id} runs without a reservation: {refused}")
            continue
        if notes.has(job):
            reserved.append(job.id)
        else:  # It has ended in the meantime.
            held.release(client, job.id)
    return released, reserved


def release_ended(client: Client, notes: JobNotes, node: str) -> list[str]:
    """Release what jobs hold that are not on this node; return them. Raises Refused and Unreachable."""
    former = held.jobs(client) - {job.id for job in notes.ages()}
    if former:
        former -= _on(node) or set()
    return sorted(job for job in former if held.release(client, job))


def _forget_ended(notes: JobNotes, node: str) -> None:
    """Forget jobs that Slurm no longer has here, although their epilog did not run."""
    old = [job for job, age in notes.ages().items() if age >= SETTLED]
    here = _on(node) if old else None
    for job in old if here is not None else ():
        if job.id not in (here or ()):
            notes.remove(job.id)


def _on(node: str) -> set[str] | None:
    """Return the jobs that Slurm has on a node, or None if it does not tell."""
    try:
        return scheduler.jobs_on(node)
    except scheduler.SlurmFailed as failed:
        warn(f"Slurm does not say which jobs are on {node}: {failed}")
        return None
