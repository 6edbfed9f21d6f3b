"""The lines that the service logs: one name for each event, and one name for each fact."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "workers", "notifiers", "events", "cli")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# What would be a second name for a fact: reason, user, gpu, reservation, path.
SYNONYMS = {
    "why",
    "error",
    "message",
    "msg",
    "username",
    "gpu_id",
    "index",
    "reservation_id",
    "file",
    "folder",
}


class Line(NamedTuple):
    """A call that logs: where it is, its name if that is a constant, and its facts."""

    place: str
    arguments: int
    name: str | None
    facts: frozenset[str]


def _is_log(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) == "structlog.get_logger"
    return isinstance(value, ast.Name) and value.id == "log"


def lines() -> Iterator[Line]:
    """Yield every call that logs."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in LEVELS and _is_log(node.func.value):
                first = node.args[0] if node.args else None
                name = str(first.value) if isinstance(first, ast.Constant) else None
                facts = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
                yield Line(f"{path.relative_to(ROOT)}:{node.lineno}", len(node.args), name, facts)


def test_an_event_is_a_name_and_facts() -> None:
    """A line can be searched for by its name, which has no facts in it: they are values of their own."""
    found = list(lines())
    assert len(found) > 50
    assert [line.place for line in found if line.arguments != 1] == []
    names = {line.place: line.name for line in found if line.name is not None}
    assert {place: name for place, name in names.items() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)} == {}


def test_a_fact_has_one_name() -> None:
    """Every line that has a reason, a user or a GPU calls it that."""
    assert {line.place: line.facts & SYNONYMS for line in lines() if line.facts & SYNONYMS} == {}
