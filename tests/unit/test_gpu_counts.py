"""How many GPUs there are, in words."""

from typing import Any

import pytest

from canhazgpu.events.spelling.gpu_counts import describe_request, spell_count, spell_request


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([], "0 GPUs"),
        ([0], "1 GPU"),
        ([0, 1, 2], "3 GPUs"),
        ([0, 1024, 1025, 1], "1 GPU and 2 MIG instances"),
        ([0, 1024], "1 MIG instance"),
        ([1024, 1], "1 GPU and 1 MIG instance"),
    ],
)
def test_a_divided_gpu_counts_as_its_instances(indices: list[int], said: str) -> None:
    """The card itself does not count."""
    assert spell_count(indices) == said


@pytest.mark.parametrize(
    ("facts", "brief", "said"),
    [
        ({"count": 1}, "1", "1 GPU"),
        ({"count": 2, "profile": None}, "2", "2 GPUs"),
        ({"count": 1, "profile": "1g.10gb"}, "1g.10gb", "1 MIG instance 1g.10gb"),
        ({"count": 2, "profile": "1g.10gb"}, "1g.10gb:2", "2 MIG instances 1g.10gb"),
        ({"count": 2, "gpus": [3, 1024]}, "GPUs 0:0,3", "GPUs 0:0,3"),
    ],
)
def test_what_a_request_waits_for(facts: dict[str, Any], brief: str, said: str) -> None:
    """As in commands, and in a sentence. An older service does not say a profile."""
    request = {"gpus": None, **facts}
    assert (spell_request(request), describe_request(request)) == (brief, said)
