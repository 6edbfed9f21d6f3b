"""A notified violation stays notified when its card gets another index."""

from support.episode import HOLD, MINUTE, WAIT, Bob, violation

from canhazgpu.events.violations import UPDATED


def test_a_card_with_another_index_is_not_told_of_again() -> None:
    """A renumbered card causes no new notice, and reminders have its new index."""
    bob = Bob()
    bob.opens(0, "v1", 1)
    bob.at(WAIT)
    assert bob.at(MINUTE, (UPDATED, violation("v1", 0))) == []
    assert bob.episode is not None
    assert list(bob.episode.notified) == ["0/unreserved/"]


def test_two_cards_that_change_places_are_both_told_of_still() -> None:
    """If two cards change places, both stay notified."""
    bob = Bob()
    bob.opens(0, "v1", 0)
    bob.opens(0, "v2", 1)
    bob.at(WAIT)
    assert bob.at(MINUTE, (UPDATED, violation("v1", 1)), (UPDATED, violation("v2", 0))) == []
    assert bob.episode is not None
    assert sorted(bob.episode.notified) == ["0/unreserved/", "1/unreserved/"]


def test_the_card_that_has_the_old_index_is_another() -> None:
    """Use of the card that has the old index now is notified."""
    bob = Bob(group_interval=0.0)
    bob.opens(0, "v1", 0)
    bob.at(WAIT)
    bob.at(MINUTE, (UPDATED, violation("v1", 1)))
    bob.opens(2 * MINUTE, "v2", 0)
    told = bob.at(2 * MINUTE + WAIT)
    assert [one.split()[0] for one in told] == ["changed"]


def test_what_was_not_told_yet_is_told_by_its_new_index() -> None:
    """A card that is renumbered before its notice is in the notice once, with the new index."""
    bob = Bob()
    bob.opens(0, "v1", 0)
    bob.at(1000, (UPDATED, violation("v1", 3)))
    (told,) = bob.at(WAIT)
    assert told.startswith("opened offender")
    (draft,) = bob.drafts
    assert [one.gpu for one in draft.violations] == [3]


def test_what_ends_in_the_moment_of_renumbering_is_told_to_be_over() -> None:
    """If a violation ends at the same time, its end has the new index."""
    bob = Bob()
    bob.opens(0, "v1", 1)
    bob.at(WAIT)
    bob.closes(MINUTE, "v1", 0)
    told = bob.at(MINUTE + HOLD)
    assert [one.split()[0] for one in told] == ["resolved"]
    assert [one.gpu for one in bob.drafts[-1].violations] == [0]
