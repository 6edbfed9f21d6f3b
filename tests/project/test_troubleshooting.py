"""The symptoms in docs/administrators.md are messages of the product."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "administrators.md").read_text().partition("## Troubleshooting")[2]
ROWS = re.findall(r"^\| (.*?) \| ", PAGE, re.MULTILINE)
SYMPTOMS = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row)]
OTHERS = {"nvidia-smi --gpu-reset", "rmmod", "root in docker …"}  # Not messages of ours.
FOLDERS = ("cli", "client", "config", "events", "notifiers", "service", "workers")


@pytest.fixture(scope="module")
def messages() -> set[str]:
    """Return every string in the code, with an ellipsis for each inserted value."""
    found = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.add(
                        "".join(
                            str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "…"
                            for part in node.values
                        )
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


@pytest.mark.parametrize("symptom", [one for one in SYMPTOMS if one not in OTHERS])
def test_a_symptom_is_a_message(symptom: str, messages: set[str]) -> None:
    """Each symptom is a message in the code, apart from its ellipses."""
    parts = [part for part in (part.strip() for part in symptom.split("…")) if len(part) > 3]
    assert parts
    assert [part for part in parts if not any(part in text for text in messages)] == []


def test_all_tables_are_read() -> None:
    """All five tables are found, and none is empty."""
    assert ROWS.count("symptom") == PAGE.count("\n### ") == 5
    assert len(SYMPTOMS) > 30
