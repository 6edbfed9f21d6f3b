"""docs/architecture.md lists every sub-package, names existing files and states each invariant shortly."""

import inspect
import re
from pathlib import Path

import pytest

from canhazgpu.service.identity.attribution import Attributor

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("cli", "client", "config", "events", "notifiers", "service", "workers")
LONGEST_LINE = 110


def section(heading: str) -> str:
    """Return the text of a section of the second level."""
    return TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


INVARIANTS = re.findall(r"^- (.+(?:\n  .+)*)", section("Invariants"), re.MULTILINE)
HOPS = re.findall(r"^\d+\. (.+(?:\n {3,4}.+)*)", section("From a GPU to a terminal"), re.MULTILINE)


def test_every_sub_package_is_listed() -> None:
    """The table lists exactly the sub-packages of the code."""
    folders = {
        f"{path.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for path in (ROOT / package).glob("*/**/__init__.py")
    }
    assert set(re.findall(r"^\| `(\w+/(?:\w+/)+)` \|", section("Folders"), re.MULTILINE)) == folders


@pytest.mark.parametrize("statement", INVARIANTS)
def test_an_invariant_is_short_and_names_its_test(statement: str) -> None:
    """An invariant has at most two sentences and names one test."""
    words, *tests = re.split(r"\n  (?=`tests/)", statement)
    assert len(tests) == 1
    assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", tests[0])
    assert len(re.findall(r"\.(?:\s|$)", words)) in (1, 2)


def test_no_invariant_is_overlooked() -> None:
    """Every test that the section names belongs to an invariant."""
    assert len(INVARIANTS) == section("Invariants").count("::test_") > 70


def test_the_walk_names_a_file_for_each_hop() -> None:
    """The walk from the provider to the terminal names one existing file per hop."""
    files = [re.findall(r"`([\w/]+\.(?:py|lua))`", hop) for hop in HOPS]
    assert [hop for hop in files if len(hop) != 1 or not (ROOT / hop[0]).exists()] == []
    assert files[0] == ["service/providers/nvml.py"]
    assert files[-1] == ["notifiers/channels/terminals.py"]


def test_lines_are_short() -> None:
    """No line of the page is longer than 110 characters."""
    assert [line for line in TEXT.splitlines() if len(line) > LONGEST_LINE] == []


def test_the_ladder_names_a_test_for_each_rung() -> None:
    """The rungs are those of the code; each row of the tables ends with a test, which exists."""
    tables = re.findall(r"(?:^\|.*\|\n)+", section("The ladder of evidence"), re.MULTILINE)
    rows = [row.strip("|\n ").split(" | ") for table in tables for row in table.splitlines()[2:]]
    climb = inspect.getsource(Attributor._climb)  # noqa: SLF001 - the ladder itself
    rungs = set(re.findall(r'"(\w+)"', climb))
    assert {row[0].strip("`") for row in rows[: len(rungs)]} == rungs
    assert len(rows) > 15
    for row in rows:
        (test,) = re.findall(r"^`(tests/[\w/]+\.py)`$", row[-1])
        assert (ROOT / test).exists(), row
