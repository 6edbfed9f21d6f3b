"""Ids of a scheduler's jobs that are too long for the service are shortened."""

import pytest

from canhazgpu.cli.syntax.job_id import LONGEST, job_id


@pytest.mark.parametrize("job", ["4711", "4711[3].head.example", f"1.{'x' * 94}"])
def test_an_id_that_fits_stays(job: str) -> None:
    """Up to 96 characters, the id is the scheduler's."""
    assert job_id(job) == job


def test_a_long_id_is_shortened_and_stays_distinct() -> None:
    """It keeps its beginning and has the greatest length; two ids that differ at the end are still two."""
    ids = [f"4711[3].{'head.' * 30}{end}" for end in ("one", "two")]
    short = [job_id(job) for job in ids]
    assert [len(job) for job in short] == [LONGEST, LONGEST]
    assert all(job.startswith("4711[3].head.") for job in short)
    assert len(set(short)) == 2
    assert [job_id(job) for job in short] == short
