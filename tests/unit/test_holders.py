"""What holders hear: who sits on their GPUs, and when it is over; only of their own."""

import pytest
from support.episode import HOLD, HOUR, MINUTE, WAIT, Bob, step, violation

from canhazgpu.events.violations import OPENED, UPDATED

NOW = "opened offender wall+log"


def named(bob: Bob, draft: int = -1) -> list[str]:
    """The ids of the violations a notice tells of."""
    return [one.violation for one in bob.drafts[draft].violations]


def test_the_holder_hears_of_a_trespass_and_of_its_end() -> None:
    """Only of what is on their GPUs; the offender hears of everything."""
    bob = Bob()
    bob.at(
        0,
        (OPENED, violation("v1", 0, kind="trespass", holder="alice")),
        (OPENED, violation("v2", 1)),
        (OPENED, violation("v3", 2, kind="trespass", holder="carol")),
    )
    assert bob.at(WAIT) == [NOW, "opened alice wall+log", "opened carol wall+log"]
    assert named(bob, 0) == ["v1", "v2", "v3"]
    assert named(bob, 1) == ["v1"]
    assert named(bob, 2) == ["v3"]
    assert (bob.drafts[1].user, bob.drafts[1].person, bob.drafts[1].audience) == ("bob", "alice", "holder")
    for name, gpu in (("v1", 0), ("v2", 1), ("v3", 2)):
        facts = {} if gpu == 1 else {"kind": "trespass", "holder": "alice" if gpu == 0 else "carol"}
        bob.closes(MINUTE, name, gpu, **facts)
    assert sorted(bob.at(MINUTE + HOLD)) == [
        "resolved alice wall+log",
        "resolved carol wall+log",
        "resolved offender wall+log",
    ]
    assert [named(bob, draft) for draft in (-3, -2, -1)] == [["v1", "v2", "v3"], ["v1"], ["v3"]]


def test_a_holder_hears_of_the_end_on_their_own_gpu() -> None:
    """While its user goes on elsewhere; after the hold, and not if they come back before."""
    bob = Bob()
    theirs = {"kind": "trespass", "holder": "carol"}
    bob.at(0, (OPENED, violation("v1", 0, **theirs)), (OPENED, violation("v2", 1)))
    assert bob.at(WAIT) == [NOW, "opened carol wall+log"]
    bob.hears(WAIT, draft=-2)
    bob.closes(MINUTE, "v1", 0, **theirs)
    assert bob.opens(2 * MINUTE, "v3", 0, **theirs) == []
    assert bob.closes(3 * MINUTE, "v3", 0, **theirs) == []
    assert bob.at(3 * MINUTE + HOLD) == ["resolved carol wall+log"]
    assert named(bob) == ["v1", "v3"]
    bob.closes(9 * MINUTE, "v2", 1)
    assert bob.at(9 * MINUTE + HOLD) == ["resolved offender wall+log"]


def test_the_next_holder_hears_too() -> None:
    """The GPU changes hands while somebody sits on it: who gave it back hears no more, who has it does."""
    bob = Bob()
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    bob.hears(WAIT, draft=-2)
    assert bob.at(MINUTE, (UPDATED, violation("v1", 3))) == []
    assert bob.at(2 * MINUTE, (UPDATED, violation("v1", 3, kind="trespass", holder="alice"))) == []
    assert bob.at(WAIT + 5 * MINUTE) == ["changed offender wall+log", "opened alice wall+log"]
    bob.closes(8 * MINUTE, "v1", 3, kind="trespass", holder="alice")
    assert bob.at(8 * MINUTE + HOLD) == ["resolved offender wall+log", "resolved alice wall+log"]


def test_a_violation_that_becomes_a_trespass_is_told() -> None:
    """Somebody has reserved the GPU meanwhile: they hear of it too."""
    bob = Bob()
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    assert bob.at(MINUTE, (UPDATED, violation("v1", kind="trespass", holder="alice"))) == []
    assert bob.at(WAIT + 5 * MINUTE) == ["changed offender wall+log", "opened alice wall+log"]


def test_a_holder_without_a_terminal_gets_mail_at_once() -> None:
    """The next step that tells people is theirs too, now; administrators hear of whom no step reached."""
    bob = Bob()
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    assert bob.at(WAIT) == [NOW, "opened carol wall+log"]
    assert bob.hears(WAIT, draft=-2) == []
    assert bob.hears(WAIT + 1, "delivered", "log") == []
    assert bob.hears(WAIT + 2, "nobody", "wall") == ["opened carol email"]
    assert bob.hears(WAIT + 3, "retry", "email") == []
    assert bob.hears(WAIT + 4, "failed", "email") == ["opened admins email+wall+webhook:chat unreached carol"]
    assert bob.hears(WAIT + 5) == []
    assert [row.split(" ", 1)[1] for row in bob.runs(WAIT, 2 * HOUR)] == [
        "reminder offender email",
        "reminder admins email+webhook:chat",
    ]


def test_a_holder_who_was_reached_hears_no_more() -> None:
    """Their terminal showed it: no mail, whatever the offender gets."""
    bob = Bob()
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    for draft in (-2, -1):
        assert bob.hears(WAIT, draft=draft) == []
    assert not any("carol" in row for row in bob.runs(WAIT, 2 * HOUR))


def test_a_holder_who_comes_late_falls_through_too() -> None:
    """All steps are taken: one that has not told this holder yet still can."""
    bob = Bob()
    bob.opens(0, "v1", 1)
    bob.runs(0, 3 * HOUR)
    bob.opens(3 * HOUR, "v2", 3, kind="trespass", holder="carol")
    bob.at(3 * HOUR + WAIT)
    (said,) = [number for number, draft in enumerate(bob.drafts) if draft.person == "carol"]
    assert bob.hears(3 * HOUR + MINUTE, "delivered", "log", draft=said) == []
    assert bob.hears(3 * HOUR + MINUTE, "nobody", "wall", draft=said) == ["opened carol email"]
    assert bob.hears(3 * HOUR + MINUTE + 1, "nobody", "email") == []  # Administrators know of the violation.
    assert bob.at(3 * HOUR + 6 * MINUTE) == ["reminder admins email+wall+webhook:chat unreached carol"]


@pytest.mark.parametrize("first", ["offender", "carol"])
def test_administrators_are_not_told_twice_at_once_that_nobody_was_reached(first: str) -> None:
    """Neither the user nor the holder is reached: the second of them is told an interval after the first."""
    bob = Bob()
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    fails = [*range(2)] if first == "offender" else [1, 0]

    def reaches_nobody(moment: int, draft: int) -> list[str]:
        bob.hears(moment, "delivered", "log", draft=draft)
        bob.hears(moment, "nobody", "wall", draft=draft)
        return bob.hears(moment, "nobody", "email")

    (told,) = reaches_nobody(WAIT + 100, fails[0])
    assert told.startswith("opened admins")
    assert reaches_nobody(WAIT + 1800, fails[1]) == []
    (later,) = bob.runs(WAIT + 1801, HOUR - 1, "nobody")
    assert later.startswith("306 reminder admins")
    assert sorted([told.endswith("carol"), later.endswith("carol")]) == [False, True]


def test_a_holder_whom_no_step_can_tell() -> None:
    """Their step has no channel that tells people: those that have are not waited for."""
    bob = Bob(step("0s", "wall log", "offender"), step("0s", "log", "holder"), step("1h", "email", "holder"))
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    assert bob.at(WAIT) == [NOW, "opened carol log", "opened carol wall"]
    assert bob.hears(WAIT, "nobody") == ["opened carol email"]
    assert not any("carol" in row for row in bob.runs(WAIT, 3 * HOUR))


def test_a_room_hears_once_what_several_people_are_told() -> None:
    """Offender, holders and administrators by one webhook: one post when it begins, one when it is over."""
    bob = Bob(step("0s", "wall webhook:chat", "offender holder"), step("0s", "webhook:chat", "admins"))
    theirs = {"kind": "trespass", "holder": "carol"}
    bob.at(0, (OPENED, violation("v1", 3, **theirs)), (OPENED, violation("v2", 1)))
    assert bob.at(WAIT) == ["opened offender wall+webhook:chat", "opened carol wall"]
    for draft in (0, 1):
        bob.hears(WAIT, draft=draft)
    bob.closes(MINUTE, "v1", 3, **theirs)
    bob.closes(MINUTE, "v2", 1)
    assert bob.at(MINUTE + HOLD) == ["resolved offender wall+webhook:chat", "resolved carol wall"]


def test_a_holder_who_was_mailed_is_mailed_of_the_next_gpu() -> None:
    """They have no terminal: what reached them before is used at once."""
    bob = Bob()
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    bob.hears(WAIT, draft=-2)
    bob.hears(WAIT, "delivered", "log")
    assert bob.hears(WAIT, "nobody", "wall") == ["opened carol email"]
    bob.hears(WAIT)
    bob.opens(MINUTE, "v2", 4, kind="trespass", holder="carol")
    assert "changed carol wall+log+email" in bob.at(WAIT + 5 * MINUTE)


def test_a_step_that_told_a_holder_nothing_yet_is_still_theirs() -> None:
    """It has the channel that was tried in vain: by its time there may be a terminal."""
    steps = (step("0s", "wall log", "offender holder"), step("30m", "wall", "holder"))
    bob = Bob(*steps, channels=("wall", "log"))
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    bob.hears(WAIT, draft=-2)
    bob.hears(WAIT, "nobody", "wall")
    assert bob.runs(WAIT, HOUR) == ["1805 reminder carol wall"]
