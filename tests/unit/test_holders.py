"""What holders hear: who sits on their GPUs, and when it is over; only of their own."""

from support.episode import HOLD, MINUTE, WAIT, Bob, violation

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
    assert [named(bob, draft) for draft in (-3, -2, -1)] == [["v1"], ["v3"], ["v1", "v2", "v3"]]


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
    assert bob.at(8 * MINUTE + HOLD) == ["resolved alice wall+log", "resolved offender wall+log"]


def test_a_violation_that_becomes_a_trespass_is_told() -> None:
    """Somebody has reserved the GPU meanwhile: they hear of it too."""
    bob = Bob()
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    assert bob.at(MINUTE, (UPDATED, violation("v1", kind="trespass", holder="alice"))) == []
    assert bob.at(WAIT + 5 * MINUTE) == ["changed offender wall+log", "opened alice wall+log"]
