"""Some cells of the fault matrix of `make faults`, and its result for a broken product."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.eventually import until

from bench.faults import matrix
from bench.faults.cell import Cell, Red
from bench.faults.course import run
from bench.faults.oracle import LOST
from bench.faults.states import STATES
from bench.truth.real.people import Person, missing

pytestmark = [pytest.mark.slow(15), pytest.mark.timeout(900)]
BROKEN = """\
from canhazgpu.service.recovery import reconciliation_plan as module
module.plan = lambda state, found, *_: module.Plan(behind=found.dataset != state.dataset)
"""
Lab = tuple[Sequence[Person], Mapping[str, str]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Users and programs that all cells share."""
    if why := missing() or matrix.missing():
        if os.environ.get("CI"):
            pytest.fail(f"{why}, and tests may not be skipped here")
        pytest.skip(why)
    with matrix.lab() as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("daemon killed", "waiters in the queue"),
        ("Redis wiped", "allocation storm"),
        ("Redis rolled back before renumbering", "allocation storm"),
        ("disk full", "open violations"),
        ("state directory removed", "live runs"),
        ("mail server down", "notices in flight"),
    ],
)
def test_a_cell_is_green(lab: Lab, fault: str, state: str) -> None:
    """The promises hold."""
    seen = run(matrix.FAULTS[fault](), STATES[state](), *lab)
    assert list(seen.wrong) == []


def test_a_service_that_restores_nothing_is_red(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that ignores a wipe loses the reservation, and the oracle reports it."""
    look = Cell.kept

    def kept(cell: Cell) -> None:
        until(lambda: cell.host.rows() is not None, 30, "for a fresh picture")
        look(cell, 3.0)
        if cell.oracle.failures:
            raise Red("the rest of the course says nothing new")

    monkeypatch.setattr(Cell, "kept", kept)
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    tmp_path.chmod(0o755)
    more = {"PYTHONPATH": str(tmp_path)}
    seen = run(matrix.FAULTS["Redis wiped"](), STATES["idle"](), *lab, more)
    assert any(text.startswith(LOST) for text in seen.wrong), seen
