"""Each pitfall in docs/pitfalls.md names its tests; test_project.py checks that they exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "pitfalls.md").read_text()
ROWS = re.findall(r"^\| (P\d+) \|.*\| ([^|]+) \|$", TEXT, re.MULTILINE)
EXPECTED = [*range(1, 22), 30, *range(43, 46)]


def test_every_pitfall_names_a_test() -> None:
    """Each row names at least one test by file and function."""
    assert [name for name, _ in ROWS] == [f"P{number}" for number in EXPECTED]
    assert [name for name, tests in ROWS if not re.search(r"`tests/[\w/]+\.py::\w+`", tests)] == []
