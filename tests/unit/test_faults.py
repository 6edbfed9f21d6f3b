"""The oracle of the fault matrix: what it reports as an error of the product, and what it accepts."""

from collections.abc import Collection
from typing import Any

import pytest

from bench.faults import matrix, oracle
from bench.faults.course import Seen
from bench.faults.oracle import Oracle
from bench.faults.report import as_markdown
from bench.faults.states import STATES

A, B = "GPU-a", "GPU-b"


@pytest.fixture
def judge() -> Oracle:
    """Return an oracle that knows one reservation, of A."""
    judge = Oracle()
    judge.granted("r1", [A], "ann", 0.0)
    return judge


def rows(held: dict[str, str]) -> list[dict[str, Any]]:
    """Return `status` with these holders of cards."""
    return [{"uuid": uuid, "reservation": {"id": held[uuid]} if uuid in held else None} for uuid in (A, B)]


def kinds(found: Collection[tuple[str, str]]) -> list[str]:
    """Return the kinds of the errors."""
    return [kind for kind, _ in found]


def test_what_is_as_promised_is_no_error(judge: Oracle) -> None:
    """Different cards for different users are no error."""
    judge.granted("r2", [B], "bob", 0.0)
    assert judge.failures == []
    assert judge.compare(rows({A: "r1", B: "r2"})) == []


def test_a_card_that_is_promised_twice(judge: Oracle) -> None:
    """Two grants of one card without a release in between are an error."""
    judge.granted("r2", [A], "bob", 0.0)
    assert kinds(judge.failures) == [oracle.TWICE]


def test_a_card_may_be_granted_once_its_release_is_asked_for(judge: Oracle) -> None:
    """A card may be granted to another user once its release was requested."""
    judge.ending("r1")
    judge.granted("r2", [A], "bob", 0.0)
    assert judge.failures == []


@pytest.mark.parametrize(("user", "asked", "expected"), [("bob", 10.0, [oracle.USED]), ("ann", 10.0, [])])
def test_a_card_that_somebody_elses_process_is_on(user: str, asked: float, expected: list[str]) -> None:
    """Once a scan must have seen a process on a card, the card may only be granted to the process's user."""
    judge = Oracle()
    judge.placed(100, A, "ann", since=0.0)
    judge.granted("r1", [A], user, asked)
    assert kinds(judge.failures) == expected


def test_a_process_that_was_not_to_be_seen_yet() -> None:
    """A process that has just started need not be known yet."""
    judge = Oracle()
    judge.placed(100, A, "ann", since=0.0)
    judge.granted("r1", [A], "bob", 0.5)
    assert judge.failures == []


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, [oracle.LOST]),
        ({B: "r1"}, [oracle.LOST]),
        ({A: "r9"}, [oracle.LOST, oracle.UNHEARD]),
        ({A: "r1", B: "r9"}, [oracle.UNHEARD]),
    ],
)
def test_what_is_missing_or_too_much(judge: Oracle, held: dict[str, str], expected: list[str]) -> None:
    """A lost, moved or unexpected reservation is an error."""
    assert kinds(judge.compare(rows(held))) == expected


def test_what_ended_does_not_come_back(judge: Oracle) -> None:
    """A released reservation may be shown until the release is done, but not afterwards."""
    judge.ending("r1")
    assert judge.compare(rows({A: "r1"})) == []
    judge.ended("r1")
    assert judge.compare(rows({})) == []
    assert kinds(judge.compare(rows({A: "r1"}))) == [oracle.BACK]


def test_nobody_is_excused_for_what_holds_always() -> None:
    """No fault excuses a card with two holders, a lost reservation, or a fact that is logged twice."""
    always = {oracle.TWICE, oracle.USED, oracle.LOST, oracle.BACK, oracle.DETECTED, oracle.DOUBLED}
    assert not [name for name, fault in matrix.FAULTS.items() if always & set(fault.excuses)]


def test_the_matrix_is_whole() -> None:
    """Every fault has a promise, and the report has a cell for each state."""
    assert all(fault.promise for fault in matrix.FAULTS.values())
    seen = [Seen(fault, state, [], [], [], 1.0, 0.5, {}) for fault in matrix.FAULTS for state in STATES]
    text = as_markdown(seen, 60.0)
    assert all(f"| {name} |" in text for name in matrix.FAULTS)
    assert text.count("green") >= len(seen)
