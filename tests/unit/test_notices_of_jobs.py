"""Notices about the reservations of jobs and pods name the command of their scheduler."""

import msgspec
import pytest

from canhazgpu.notifiers.messages.plain_text import lines
from canhazgpu.notifiers.messages.sample_notices import samples

IDLE = next(one.notice for one in samples() if one.name == "idle-holder")


@pytest.mark.parametrize(
    ("kind", "label", "command"),
    [
        ("slurm", "job 17", "To end the job: scancel 17"),
        ("kubernetes", "pod ml/train-0", "To end the pod: kubectl delete pod --namespace ml train-0"),
    ],
)
def test_an_idle_job_is_ended_by_its_scheduler(kind: str, label: str, command: str) -> None:
    """The notice has this command, and none of canhazgpu, which the holder could not use."""
    assert IDLE.reservation
    held = msgspec.structs.replace(IDLE.reservation, kind=kind, label=label)
    text = "\n".join(lines(msgspec.structs.replace(IDLE, reservation=held)))
    assert command in text
    assert "canhazgpu release" not in text
