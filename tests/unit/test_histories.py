"""The last step, ending processes, and properties that hold for every history, with a simulated clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.episode import HOUR, MINUTE, WAIT, Bob, step, violation

from canhazgpu.config.notices import Terminate
from canhazgpu.events.violations import CLOSED, OPENED, UPDATED


def test_processes_are_ended_only_after_so_many_notices_that_reached() -> None:
    """Processes are ended once, after enough notices reached the user, who gets a notice of it."""
    bob = Bob(
        step("0s", "wall", "offender"),
        step("1h", "terminate", "offender"),
        terminate=Terminate(enabled=True, dry_run=False, after_notices=2),
    )
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT, "nobody")
    assert bob.runs(WAIT, 3 * HOUR) == []
    assert bob.at(4 * HOUR + WAIT) == ["reminder offender wall"]
    assert bob.hears(4 * HOUR + WAIT) == []
    assert bob.at(12 * HOUR + WAIT) == ["reminder offender wall"]
    assert bob.hears(12 * HOUR + WAIT) == ["terminate offender terminate+wall"]
    assert not bob.drafts[-1].dry_run
    assert bob.runs(12 * HOUR + WAIT, 20 * HOUR) == []


def test_processes_are_ended_later_when_too_many_were() -> None:
    """If too many episodes were ended recently, it is tried again after ten minutes."""
    bob = Bob(step("0s", "wall terminate", "offender"), terminate=Terminate(enabled=True, after_notices=1))
    bob.may_terminate = False
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.hears(WAIT) == []
    assert bob.due == WAIT + 10 * MINUTE
    bob.may_terminate = True
    assert bob.at(WAIT + 10 * MINUTE) == ["terminate offender terminate+wall"]
    assert bob.drafts[-1].dry_run


@pytest.mark.parametrize("facts", [{"person": None}, {}])
def test_nothing_is_ended_without_proof_or_leave(facts: dict[str, None]) -> None:
    """No process is ended if one violation has no proven user, or if the setting is off (the default)."""
    bob = Bob(step("0s", "wall", "offender"), step("0s", "terminate", "offender"))
    if facts:
        bob = Bob(
            step("0s", "wall", "offender"),
            step("0s", "terminate", "offender"),
            terminate=Terminate(enabled=True, after_notices=1),
        )
    bob.at(0, (OPENED, violation("v1")), (OPENED, violation("v2", 1, **facts)))
    bob.at(WAIT)
    assert [one for one in bob.hears(WAIT) if "terminate" in one] == []
    assert [one for one in bob.runs(WAIT, 100 * HOUR) if "terminate" in one] == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from([OPENED, UPDATED, CLOSED, "delivered", "nobody", "retry", "failed", ""]),
        st.integers(0, 3),
        st.integers(0, 2 * HOUR),
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
def test_what_holds_for_every_history(steps: list[tuple[str, int, int]], twice: bool) -> None:  # noqa: FBT001
    """Every notice has a reason, and none is sent twice.

    Resolved comes once, last, to those who were notified.
    """
    bob, now, number, current = Bob(), 0, 0, dict[int, str]()
    for kind, gpu, pause in steps:
        now += pause
        before = len(bob.drafts)
        if kind == OPENED and gpu not in current:
            number += 1
            current[gpu] = f"v{number}"
            bob.opens(now, current[gpu], gpu)
        elif kind == UPDATED and gpu in current:
            bob.at(now, (UPDATED, violation(current[gpu], gpu)))
        elif kind == CLOSED and gpu in current:
            bob.closes(now, current.pop(gpu), gpu)
        elif kind in ("delivered", "nobody", "retry", "failed") and bob.drafts:
            bob.hears(now, kind)
        else:
            bob.at(now)
        if twice:
            after = len(bob.drafts)
            assert bob.at(now) == []
            assert len(bob.drafts) == after
        fresh = [(draft.audience, draft.channels) for draft in bob.drafts[before:]]
        assert len(fresh) <= 6
        assert (bob.episode is not None) or not current
    for episode in {draft.episode for draft in bob.drafts}:
        drafts = [draft for draft in bob.drafts if draft.episode == episode]
        assert [draft.serial for draft in drafts] == list(range(1, len(drafts) + 1))
        for audience in {draft.audience for draft in drafts}:
            kinds = [draft.kind for draft in drafts if draft.audience == audience]
            assert kinds[0] == "opened"
            again = kinds.index("reminder") if "reminder" in kinds else len(kinds)
            assert "opened" not in kinds[again:]
            assert audience == "offender" or kinds.count("opened") == 1
            assert "resolved" not in kinds[:-1]


def test_a_closed_fact_of_nobody_is_nothing() -> None:
    """A closed fact without an episode changes nothing."""
    bob = Bob()
    assert bob.at(0, (CLOSED, violation("v1"))) == []
    assert bob.episode is None
