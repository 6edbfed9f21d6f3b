"""How lists of GPUs are spelled."""

import pytest

from canhazgpu.events.spelling.gpu_ranges import name_gpus, spell_ranges, states_of_gpus


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], ""),
        ([3], "3"),
        ([3, 0], "0,3"),
        ([0, 1], "0,1"),
        (range(8), "0-7"),
        ([7, 0, 1, 2, 5, 5, 9, 10, 11, 12], "0-2,5,7,9-12"),
    ],
)
def test_ranges(indices: list[int], text: str) -> None:
    """Three or more in a row have a dash; the order and repetitions do not matter."""
    assert spell_ranges(indices) == text


def test_names() -> None:
    """One GPU is a GPU, several are GPUs."""
    assert (name_gpus([4]), name_gpus(range(8)), name_gpus([1, 2])) == ("GPU 4", "GPUs 0-7", "GPUs 1,2")


def test_states() -> None:
    """GPUs in the same state are named together."""
    states = [(0, "reserved by alice"), (1, "drained"), (2, "reserved by alice"), (3, "reserved by alice")]
    assert states_of_gpus(states) == "GPUs 0,2,3 are reserved by alice, GPU 1 is drained"
