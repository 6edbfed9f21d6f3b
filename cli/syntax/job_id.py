"""The id of a scheduler's job, as the service knows it."""

from __future__ import annotations

LONGEST = 96  # Characters that the service accepts.
DIGEST = 6  # Bytes.


def job_id(job: str) -> str:
    """Return the id of a job, shortened if necessary.

    PBS puts the name of the server into it, which may be long. What is cut off is replaced with its digest,
    so that jobs of two servers never have the same id.
    """
    if len(job) <= LONGEST:
        return job
    from hashlib import blake2s  # noqa: PLC0415 - only for long ones

    end = f"-{blake2s(job.encode(), digest_size=DIGEST).hexdigest()}"
    return job[: LONGEST - len(end)] + end
