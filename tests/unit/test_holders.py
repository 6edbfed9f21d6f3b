"""Notices to holders: they are only about their own GPUs, including the end of the use."""

import pytest
from support.episode import HOLD, HOUR, MINUTE, WAIT, Bob, step, violation

from canhazgpu.events.violations import OPENED, UPDATED

NOW = "opened offender wall+log"


def named(bob: Bob, draft: int = -1) -> list[str]:
    """Return the ids of the violations in a notice."""
    return [one.violation for one in bob.drafts[draft].violations]


def test_the_holder_hears_of_a_trespass_and_of_its_end() -> None:
    """A holder is notified only about their own GPUs; the offender is notified about all."""
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
    """A holder gets the resolved notice when their own GPU is free, even if the episode continues."""
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
    """If the GPU gets a new holder during a violation, only the new holder is notified from then on."""
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
    """If a GPU is reserved during a violation, the new holder is notified."""
    bob = Bob()
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    assert bob.at(MINUTE, (UPDATED, violation("v1", kind="trespass", holder="alice"))) == []
    assert bob.at(WAIT + 5 * MINUTE) == ["changed offender wall+log", "opened alice wall+log"]


def test_a_holder_without_a_terminal_gets_mail_at_once() -> None:
    """A holder without a terminal gets the next step at once, or else administrators are notified."""
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
    """A holder who was reached gets no further steps, whatever the offender gets."""
    bob = Bob()
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    for draft in (-2, -1):
        assert bob.hears(WAIT, draft=draft) == []
    assert not any("carol" in row for row in bob.runs(WAIT, 2 * HOUR))


def test_a_holder_who_comes_late_falls_through_too() -> None:
    """A holder who is added after all steps were taken is still notified by one of them."""
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
    """If the holder's step has no personal channel, the steps that have one are used at once."""
    bob = Bob(step("0s", "wall log", "offender"), step("0s", "log", "holder"), step("1h", "email", "holder"))
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    assert bob.at(WAIT) == [NOW, "opened carol log", "opened carol wall"]
    assert bob.hears(WAIT, "nobody") == ["opened carol email"]
    assert not any("carol" in row for row in bob.runs(WAIT, 3 * HOUR))


def test_a_room_hears_once_what_several_people_are_told() -> None:
    """A webhook gets one message at the start and one at the end, even if several audiences use it."""
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
    """A holder without a terminal gets the next notice through the channel that reached them before."""
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
    """A step that sent a holder nothing is still taken at its time. There may be a terminal by then."""
    steps = (step("0s", "wall log", "offender holder"), step("30m", "wall", "holder"))
    bob = Bob(*steps, channels=("wall", "log"))
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    bob.hears(WAIT, draft=-2)
    bob.hears(WAIT, "nobody", "wall")
    assert bob.runs(WAIT, HOUR) == ["1805 reminder carol wall"]
