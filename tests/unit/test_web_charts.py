"""The drawings of the page: lines that are short as text, and are those of the readings."""

import re
from collections.abc import Sequence

import pytest

from canhazgpu.cli.web.history import SAMPLES, Sample
from canhazgpu.cli.web.markup import Element
from canhazgpu.cli.web.pages.charts import COLOURS, HEIGHT, colours_of, meter, sparkline

LONGEST = 360  # Characters of a line that never rests.


def drawn(shares: Sequence[float | None]) -> str:
    """Return the path of the utilisation, empty if nothing is drawn."""
    chart = sparkline(tuple(Sample(share, None) for share in shares))
    paths = [child for child in chart.children if isinstance(child, Element)]
    return paths[0].attributes["d"] if paths else ""


def points(path: str) -> list[list[tuple[int, int]]]:
    """Return the points of each line of a path, as a browser follows it."""
    found = []
    for piece in path.split("M")[1:]:
        begin, _, steps = piece.partition("l")
        x, y = map(int, begin.split())
        line = [(x, y)]
        numbers = [int(one) for one in re.findall(r"-?\d+", steps)]
        for right, down in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = x + right, y + down
            line.append((x, y))
        found.append(line)
    return found


def test_a_line_goes_through_the_readings() -> None:
    """Each reading is where it belongs: the newest at the right edge, all of them within the drawing."""
    low, high = HEIGHT - 1, 1
    (line,) = points(drawn([0.0, 1.0, 0.0]))
    assert line == [(SAMPLES - 3, low), (SAMPLES - 2, high), (SAMPLES - 1, low)]


def test_a_level_part_has_two_points() -> None:
    """Of readings that stay as they are, only the first and the last are drawn."""
    assert points(drawn([1.0] * SAMPLES)) == [[(0, 1), (SAMPLES - 1, 1)]]
    (line,) = points(drawn([0.0] * 10 + [1.0] * (SAMPLES - 10)))
    assert [x for x, _ in line] == [0, 9, 10, SAMPLES - 1]


@pytest.mark.parametrize(
    ("shares", "lines"),
    [
        ([None] * SAMPLES, 0),
        ([], 0),
        ([0.5], 0),
        ([0.5, None, 0.5], 0),
        ([0.5, 0.6, None, None, 0.5, 0.5], 2),
    ],
)
def test_what_is_not_known_is_a_gap(shares: Sequence[float | None], lines: int) -> None:
    """There is no line across readings that failed, and none of a single point."""
    assert len(points(drawn(shares))) == lines


def test_a_restless_line_is_short() -> None:
    """The history of a GPU that never rests takes few bytes."""
    assert len(drawn([0.2, 0.9] * (SAMPLES // 2))) < LONGEST


def test_a_meter_shows_a_share() -> None:
    """A share is a part of the width, and never more than all of it."""
    widths = [
        [child.attributes["width"] for child in meter(share, "memory").children if isinstance(child, Element)]
        for share in (0.5, 1.5, 0.0, None)
    ]
    assert widths == [["50%"], ["100%"], [], []]


def test_users_have_different_colours() -> None:
    """As long as there are colours left, no two users of a page have the same."""
    few = colours_of([f"user{number}" for number in range(COLOURS)])
    assert len(set(few.values())) == COLOURS
    many = colours_of([f"user{number}" for number in range(3 * COLOURS)])
    assert len(many) == 3 * COLOURS
    assert colours_of(["bob"])["bob"] == colours_of(["bob", "dave"])["bob"]
