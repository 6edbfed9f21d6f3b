"""What the service holds for a scheduler's jobs: requests of the prolog, the epilog and `reconcile`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from canhazgpu.client.connection import Client, Refused, Unreachable
from canhazgpu.client.reservations import obtain, post

if TYPE_CHECKING:
    from canhazgpu.cli.jobs.notes import Job

JOBS = "/v1/jobs"
LABEL = "job "
PAUSE = 0.2  # Seconds between attempts to reach the service.
NOT_MANAGED = "not-managed"  # GPUs that are the scheduler's alone: there is nothing to reserve.
CONFLICT = 409  # Somebody has the GPUs.
SERVER_ERROR = 500  # From this status on, the service cannot tell.


def reserve(client: Client, job: Job, patience: float) -> None:
    """Reserve the GPUs of a job, waiting for `patience` seconds. Raises Refused and Unreachable."""
    until = time.monotonic() + patience
    while True:
        left = f"{max(1, round(until - time.monotonic()))}s"
        try:
            obtain(client, _body(job), wait=left, path=JOBS)
        except Unreachable:
            if time.monotonic() >= until:
                raise
        except Refused as refused:
            if refused.kind == NOT_MANAGED:
                return
            if refused.kind == "timed-out":
                reserve_now(client, job)  # The refusal says who holds the GPUs.
                return
            if refused.status < SERVER_ERROR:
                raise
            if time.monotonic() >= until:
                raise Unreachable(refused.detail, refused.remedy) from None
        else:
            return
        time.sleep(PAUSE)


def reserve_now(client: Client, job: Job) -> bool:
    """Reserve the GPUs of a job without waiting; return whether there are any to reserve.

    Raises Refused and Unreachable.
    """
    try:
        obtain(client, _body(job), wait=False, path=JOBS)
    except Refused as refused:
        if refused.kind != NOT_MANAGED:
            raise
        return False
    return True


def release(client: Client, kind: str, job: str) -> list[int]:
    """End the reservation of a job; return its GPUs. Raises Refused and Unreachable."""
    rows = post(client, f"{JOBS}/release", {"kind": kind, "job": job})
    return sorted(gpu for row in rows for gpu in row["gpus"])


def jobs(client: Client, kind: str) -> set[str]:
    """Return the ids of the jobs of a scheduler that have a reservation. Raises Refused and Unreachable."""
    rows = client.get("/v1/reservations")
    return {str(row["label"]).removeprefix(LABEL) for row in rows if row["kind"] == kind}


def _body(job: Job) -> dict[str, Any]:
    named = {"devices": list(job.devices)} if job.devices else {"gpus": list(job.gpus)}
    return {"kind": job.kind, "job": job.id, "uid": job.uid, **named}
