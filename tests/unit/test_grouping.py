"""The machine that decides when a user hears what: pure, on a clock of the test's own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.events.violations import CLOSED, OPENED, UPDATED, Violation
from canhazgpu.workers.grouping import Draft, Fact, Group, Timing, advance

WAIT, REPEAT = 5_000, 60_000
TIMING = Timing(WAIT, REPEAT)


def violation(name: str, gpu: int = 0, **facts: Any) -> Violation:
    """A violation of bob's."""
    values: dict[str, Any] = {
        "violation": name,
        "kind": "unreserved",
        "gpu": gpu,
        "gpu_uuid": f"GPU-{gpu}",
        "gpu_name": "H100",
        "key": "uid:1001",
        "user": "bob",
        "uid": 1001,
        "person": "bob",
        "evidence": "uid",
        "since": "2026-01-01T00:00:00.000Z",
        "memory_mb": 1024,
        "peak_memory_mb": 1024,
        **facts,
    }
    return Violation(**values)


class Bob:
    """One user's group, stepped through time."""

    def __init__(self) -> None:
        self.group: Group | None = None
        self.drafts: list[Draft] = []

    def at(self, now_ms: int, *facts: Fact) -> list[str]:
        """Apply facts at a moment; return the kinds of the notices that follow."""
        self.group, drafts = advance(self.group, facts, now_ms, TIMING)
        self.drafts += drafts
        return [draft.kind for draft in drafts]

    def opens(self, now_ms: int, name: str, gpu: int = 0) -> list[str]:
        """Open a violation."""
        return self.at(now_ms, (OPENED, violation(name, gpu)))

    def closes(self, now_ms: int, name: str, gpu: int = 0) -> list[str]:
        """Close one."""
        return self.at(now_ms, (CLOSED, violation(name, gpu, reason="stopped", closed="x", duration_s=1)))


@pytest.fixture
def bob() -> Bob:
    """A user of whom nothing is known."""
    return Bob()


def named(draft: Draft) -> list[str]:
    """The ids of the violations a notice tells of."""
    return [one.violation for one in draft.violations]


def test_the_first_notice_waits_for_group_wait(bob: Bob) -> None:
    """Nothing before, one at that very millisecond, with every GPU that joined meanwhile, by index."""
    assert bob.opens(0, "v1", 2) == []
    assert bob.group
    assert bob.group.due_ms == WAIT
    assert bob.opens(WAIT - 1, "v2", 1) == []
    assert bob.group.due_ms == WAIT
    assert bob.at(WAIT) == ["opened"]
    assert named(bob.drafts[0]) == ["v2", "v1"]
    assert (bob.drafts[0].user, bob.drafts[0].uid, bob.drafts[0].person) == ("bob", 1001, "bob")
    assert bob.drafts[0].episode == "v1"


def test_what_ends_before_it_was_told_is_never_told(bob: Bob) -> None:
    """No opening, so no resolved notice either, and nothing is left behind."""
    bob.opens(0, "v1")
    assert bob.closes(WAIT - 1, "v1") == []
    assert bob.group is None
    assert bob.at(WAIT) == []


def test_a_gpu_that_joins_later_makes_one_more_notice(bob: Bob) -> None:
    """After its own group_wait, as a change that shows all that is open; reminders start over."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.opens(10_000, "v2", 1) == []
    assert bob.opens(11_000, "v3", 2) == []
    assert bob.at(10_000 + WAIT) == ["changed"]
    assert named(bob.drafts[-1]) == ["v1", "v2", "v3"]
    assert bob.group
    assert bob.group.due_ms == 10_000 + WAIT + REPEAT
    assert len({draft.episode for draft in bob.drafts}) == 1


def test_a_gpu_that_joins_and_leaves_within_the_wait_is_not_told(bob: Bob) -> None:
    """The change that was due is taken back; the resolved notice tells of what was told only."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.opens(10_000, "v2", 1)
    assert bob.closes(11_000, "v2", 1) == []
    assert bob.at(10_000 + WAIT) == []
    assert bob.closes(20_000, "v1") == ["resolved"]
    assert named(bob.drafts[-1]) == ["v1"]


def test_a_reminder_at_every_repeat_interval(bob: Bob) -> None:
    """Not a millisecond sooner, one at a time, also when many intervals were missed."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.at(WAIT + REPEAT - 1) == []
    assert bob.at(WAIT + REPEAT) == ["reminder"]
    assert bob.at(WAIT + 2 * REPEAT - 1) == []
    assert bob.at(WAIT + 9 * REPEAT) == ["reminder"]
    assert bob.at(WAIT + 9 * REPEAT + 1) == []
    assert bob.group
    assert bob.group.due_ms == WAIT + 10 * REPEAT


def test_resolved_comes_once_when_the_last_one_ends(bob: Bob) -> None:
    """Not while another is open; it tells of everything that was told."""
    bob.at(0, (OPENED, violation("v1")), (OPENED, violation("v2", 1)))
    bob.at(WAIT)
    assert bob.closes(10_000, "v1") == []
    assert bob.closes(11_000, "v2", 1) == ["resolved"]
    assert named(bob.drafts[-1]) == ["v1", "v2"]
    assert bob.drafts[-1].violations[0].reason == "stopped"
    assert bob.group is None
    assert bob.closes(12_000, "v2", 1) == []


def test_a_violation_after_the_end_begins_another_episode(bob: Bob) -> None:
    """With a wait and an episode of its own."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.at(20_000, (CLOSED, violation("v1")), (OPENED, violation("v2"))) == ["resolved"]
    assert bob.at(20_000 + WAIT) == ["opened"]
    assert [draft.episode for draft in bob.drafts] == ["v1", "v1", "v2"]


def test_what_was_missed_while_nobody_worked(bob: Bob) -> None:
    """An open fact that comes too late to wait further is told at the next turn, not lost."""
    bob.opens(0, "v1")
    assert bob.at(1_000_000) == ["opened"]


def test_an_update_tells_nobody_but_is_shown(bob: Bob) -> None:
    """The next notice has the latest facts; an update of what has ended changes nothing."""
    bob.opens(0, "v1")
    assert bob.at(1, (UPDATED, violation("v1", memory_mb=9))) == []
    bob.at(WAIT)
    assert bob.drafts[0].violations[0].memory_mb == 9
    bob.closes(10_000, "v1")
    assert bob.at(10_001, (UPDATED, violation("v1"))) == []
    assert bob.group is None


def test_facts_that_come_twice_change_nothing(bob: Bob) -> None:
    """At-least-once delivery of facts makes no second notice and moves no timer."""
    bob.opens(0, "v1")
    bob.opens(1_000, "v1")
    assert bob.group
    assert bob.group.due_ms == WAIT
    assert bob.at(WAIT) == ["opened"]
    before = bob.group
    assert bob.opens(WAIT + 1, "v1") == []
    assert bob.group == before


def test_the_proven_person_is_told(bob: Bob) -> None:
    """One violation with proof is enough to know whom to tell; none means nobody."""
    bob.at(0, (OPENED, violation("v1", 0, person=None, uid=0)), (OPENED, violation("v2", 1)))
    bob.at(WAIT)
    assert (bob.drafts[0].person, bob.drafts[0].uid) == ("bob", 1001)
    nobody = Bob()
    nobody.at(0, (OPENED, violation("v1", person=None, uid=None, user="unknown", key="unknown")))
    nobody.at(WAIT)
    assert (nobody.drafts[0].person, nobody.drafts[0].user) == (None, "unknown")


STEPS = st.lists(
    st.tuples(st.sampled_from([OPENED, UPDATED, CLOSED, ""]), st.integers(0, 3), st.integers(0, 20_000)),
    max_size=40,
)


def facts_of(steps: list[tuple[str, int, int]]) -> list[tuple[int, list[Fact]]]:
    """Turn random steps into facts in their order: each violation opens, is updated, and closes, once."""
    now, number, current, rows = 0, 0, dict[int, str](), list[tuple[int, list[Fact]]]()
    for kind, gpu, pause in steps:
        now += pause
        facts: list[Fact] = []
        if kind == OPENED and gpu not in current:
            number += 1
            current[gpu] = f"v{number}"
            facts = [(OPENED, violation(current[gpu], gpu))]
        elif kind in (UPDATED, CLOSED) and gpu in current:
            facts = [(kind, violation(current[gpu], gpu))]
            if kind == CLOSED:
                del current[gpu]
        rows.append((now, facts))
    return rows


@given(STEPS)
def test_what_holds_for_every_history(steps: list[tuple[str, int, int]]) -> None:
    """Each episode: one opening first, resolved at most once and last; only what was told is resolved."""
    bob = Bob()
    is_open: set[str] = set()
    for now_ms, facts in facts_of(steps):
        before = len(bob.drafts)
        bob.at(now_ms, *facts)
        for kind, one in facts:
            (is_open.discard if kind == CLOSED else is_open.add)(one.violation)
        assert len(bob.drafts) - before <= 1
        assert (bob.group is None) == (not is_open)
        assert bob.group is None or set(bob.group.open) == is_open
        assert bob.group is None or (bob.group.due_ms or 0) > now_ms
    for episode in {draft.episode for draft in bob.drafts}:
        drafts = [draft for draft in bob.drafts if draft.episode == episode]
        kinds = [draft.kind for draft in drafts]
        assert kinds[0] == "opened"
        assert kinds.count("opened") == 1
        assert "resolved" not in kinds[:-1]
        told = {name for draft in drafts if draft.kind != "resolved" for name in named(draft)}
        assert all(set(named(draft)) <= told for draft in drafts if draft.kind == "resolved")


@given(STEPS)
def test_applying_each_fact_twice_gives_the_same_notices(steps: list[tuple[str, int, int]]) -> None:
    """A worker that died before its acknowledgement is no reason to tell anybody twice."""
    once, twice = Bob(), Bob()
    for now_ms, facts in facts_of(steps):
        once.at(now_ms, *facts)
        twice.at(now_ms, *facts)
        if not any(kind == OPENED for kind, _ in facts) or twice.group:
            twice.at(now_ms, *facts)
    assert twice.drafts == once.drafts
    assert twice.group == once.group
