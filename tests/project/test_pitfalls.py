"""The table of pitfalls names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "pitfalls.md").read_text()
ROWS = re.findall(r"^\| (P\d+) \|.*\| ([^|]+) \|$", TEXT, re.MULTILINE)
EXPECTED = [*range(1, 22), 30, *range(43, 46)]


def test_every_pitfall_has_a_test_that_exists() -> None:
    """Each row names one or more, by file and function."""
    assert [name for name, _ in ROWS] == [f"P{number}" for number in EXPECTED]
    for name, tests in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, name
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text())
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
            assert function in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}, (
                file,
                function,
            )
