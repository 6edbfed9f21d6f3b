"""How GPUs are named: the lists that people write, and the beginnings of UUIDs that requests have."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canhazgpu.cli import arguments
from canhazgpu.cli.syntax.gpu_list import gpu_list, one_gpu
from canhazgpu.client import reserve
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.sanitize import UUID_START
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import indices

CARDS = {
    index: GpuUsage(index=index, uuid=uuid, name="H100")
    for index, uuid in enumerate(("GPU-8f3c0001-aa", "GPU-8f3c0002-aa", "GPU-41d0-bb", "MIG-41d0-cc"))
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3", [3]),
        ("0,2", [0, 2]),
        ("0-3", [0, 1, 2, 3]),
        ("2-2", [2]),
        ("0-1,4, 6-7", [0, 1, 4, 6, 7]),
        ("all", "all"),
        (" all ", "all"),
        ("ALL", "all"),
        ("gpu0,GPU3", [0, 3]),
        ("cuda:1", [1]),
        ("GPU-8f3c", ["GPU-8f3c"]),
        ("0,MIG-41d0/1/2", [0, "MIG-41d0/1/2"]),
    ],
)
def test_what_people_write(text: str, found: object) -> None:
    """Numbers, ranges, `all` and beginnings of UUIDs, in any mixture of the first two and the last."""
    assert gpu_list(text) == found


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "3-1", "-1", "1-", "all,1", "1 2", "0..3", "1_0", "\u0663", "8f3c", "10000"]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    """Anything else is refused with the forms that are understood."""
    with pytest.raises(ValueError, match=re.escape("write it like 3, 0-3, 0,2, 0:1, all, or the beginning")):
        gpu_list(text)


def test_a_gpu_that_is_named_twice_is_refused() -> None:
    """Also where a range has it."""
    for text in ("1,1", "0-2,1", "GPU-8f,GPU-8f"):
        with pytest.raises(ValueError, match="names a GPU twice"):
            gpu_list(text)


EDGES = [
    "GPU-" + "x" * 127,
    "GPU-" + "x" * 128,
    "GPU-./_-",
    "GPU-",
    "GPU",
    "-1",
    "Gpü-1",
    "GPU-\u0663",
    "G1-1",
]


@given(st.from_regex(UUID_START, fullmatch=True) | st.text("Aaé9./_-\u0663\n ", max_size=8))
@example("GPU-a b")
@example("GPU-a+")
def test_a_uuid_starts_on_the_command_line_as_in_requests(text: str) -> None:
    """What the service takes for the beginning of a UUID is one here too, and nothing else."""
    for word in (text.strip(), *EDGES):
        try:
            found = isinstance(one_gpu(word), str)
        except ValueError:
            found = False
        assert found == bool(re.fullmatch(UUID_START, word)), word


@given(st.sets(st.integers(0, 1023), min_size=1))
def test_every_list_of_numbers_is_read_as_it_is(numbers: set[int]) -> None:
    """What is written with commas is what is meant."""
    assert gpu_list(",".join(map(str, sorted(numbers)))) == sorted(numbers)


@given(st.text(max_size=12))
def test_no_text_does_anything_but_read_or_refuse(text: str) -> None:
    """Any text is a list of GPUs or refused with a ValueError."""
    for read in (gpu_list, one_gpu):
        try:
            read(text)
        except ValueError as refusal:
            assert "GPU" in str(refusal)  # noqa: PT017 - both ends are right


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ([], None)),
        (["3"], (["3"], None)),
        (["2h"], ([], "2h")),
        (["3", "2h"], (["3"], "2h")),
        (["2", "days"], ([], "2 days")),
        (["3", "2", "days"], (["3"], "2 days")),
        (["0-3", "1:30:00"], (["0-3"], "1:30:00")),
        (["1:30:00"], ([], "1:30:00")),
        (["1h", "30m"], ([], "1h 30m")),
        (["GPU-8f", "1w"], (["GPU-8f"], "1w")),
        (["3", "x"], (["3"], "x")),
        (["0:1"], (["0:1"], None)),
        (["3", "0:1"], (["3", "0:1"], None)),
        (["0:1,1:0", "1h"], (["0:1,1:0"], "1h")),
        (["0:1", "1:30:00"], (["0:1"], "1:30:00")),
    ],
)
def test_gpus_and_a_time_as_arguments(words: list[str], found: object) -> None:
    """`extend` tells them apart: a time has a unit or colons."""
    assert arguments.gpus_and_time(words) == found


def test_the_beginning_of_a_uuid_is_enough_if_it_fits_one() -> None:
    """In whatever case it is written; indices stay as they are."""
    assert indices(["GPU-41", 1], CARDS) == (1, 2)
    assert indices(["gpu-8F3C0002"], CARDS) == (1,)
    assert indices(["MIG-"], CARDS) == (3,)
    assert indices(None, CARDS) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("GPU-9", "no GPU of this host has a UUID that begins with GPU-9"),
        (
            "GPU-8f3c",
            "GPU-8f3c is the beginning of 2 UUIDs: GPU-8f3c0001-aa (GPU 0), GPU-8f3c0002-aa (GPU 1)",
        ),
        ("GPU-41d0-bb-more", "no GPU of this host"),
    ],
)
def test_a_beginning_that_fits_none_or_several_is_refused(name: str, said: str) -> None:
    """The reason names what it could be."""
    with pytest.raises(Problem, match=re.escape(said)):
        indices([name], CARDS)


def test_the_same_card_by_two_names_is_refused() -> None:
    """A number and a UUID that mean one card are one too many."""
    with pytest.raises(Problem, match="named twice"):
        indices([2, "GPU-41"], CARDS)


def test_a_python_list_of_gpus_is_no_text() -> None:
    """`"0-1"` is refused in words of the caller, before the service is asked."""
    with pytest.raises(TypeError, match=re.escape("gpu_ids must be a list such as [0, 1], not '0-1'")):
        reserve(gpu_ids="0-1").__enter__()
