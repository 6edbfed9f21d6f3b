"""How many GPUs there are, in words."""

import pytest

from canhazgpu.events.spelling.gpu_counts import spell_count


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
