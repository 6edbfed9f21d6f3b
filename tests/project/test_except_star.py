"""What Python 3.11.2, which Debian 12 has, does otherwise than later releases."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("cli", "client", "config", "events", "notifiers", "service", "workers")


def test_nothing_is_raised_in_an_except_star_clause() -> None:
    """Before Python 3.11.4 it arrives in an ExceptionGroup, which a caller that expects it does not catch."""
    found = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for tried in ast.walk(ast.parse(path.read_text()))
        if isinstance(tried, ast.TryStar)
        for handler in tried.handlers
        for inner in ast.walk(handler)
        if isinstance(inner, ast.Raise)
    ]
    assert found == []
