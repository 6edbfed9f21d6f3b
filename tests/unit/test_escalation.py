"""The state machine that decides who is notified of a user's violations, and when, with a simulated clock."""

import pytest
from support.episode import HOLD, HOUR, MINUTE, SECOND, WAIT, Bob, step, violation

from canhazgpu.events.violations import OPENED, UPDATED

NOW = "opened offender wall+log"


@pytest.fixture
def bob() -> Bob:
    """A user without history, with the default settings."""
    return Bob()


def named(bob: Bob, draft: int = -1) -> list[str]:
    """Return the ids of the violations in a notice."""
    return [one.violation for one in bob.drafts[draft].violations]


def test_the_first_notice_waits_for_group_wait(bob: Bob) -> None:
    """The first notice is sent exactly after `group_wait`, with all GPUs added until then, by index."""
    assert bob.opens(0, "v1", 2) == []
    assert bob.due == WAIT
    assert bob.opens(WAIT - 1, "v2", 1) == []
    assert bob.due == WAIT
    assert bob.at(WAIT) == [NOW]
    assert named(bob) == ["v2", "v1"]
    assert (bob.drafts[0].user, bob.drafts[0].uid, bob.drafts[0].person) == ("bob", 1001, "bob")
    assert (bob.drafts[0].episode, bob.drafts[0].group, bob.drafts[0].serial) == ("v1", "uid:1001", 1)


def test_eight_ranks_on_eight_gpus_are_one_notice(bob: Bob) -> None:
    """Eight violations of one user cause one notice."""
    facts = [(OPENED, violation(f"v{gpu}", gpu)) for gpu in range(8)]
    assert bob.at(0, *facts) == []
    assert bob.at(WAIT) == [NOW]
    assert len(named(bob)) == 8


def test_the_default_steps(bob: Bob) -> None:
    """By default, terminals and the log come first, mail after 10 minutes, administrators after an hour."""
    bob.opens(0, "v1")
    assert bob.runs(0, 2 * HOUR) == [
        "5 opened offender wall+log",
        "605 reminder offender email",
        "3605 opened admins email+webhook:chat",
    ]


def test_a_channel_that_reaches_nobody_falls_through(bob: Bob) -> None:
    """If a channel reaches nobody, the next step is taken at once.

    Administrators read that nobody was reached.
    """
    bob.opens(0, "v1")
    assert bob.at(WAIT) == [NOW]
    assert bob.hears(WAIT + 1, "delivered", "log") == []
    assert bob.hears(WAIT + 2, "nobody", "wall") == ["opened offender email"]
    assert bob.hears(WAIT + 3, "nobody") == ["opened admins email+webhook:chat unreached"]
    assert bob.hears(WAIT + 4) == []
    assert bob.episode
    assert bob.episode.unreached
    assert bob.runs(WAIT + 5, 3 * HOUR) == []


def test_a_mail_that_is_tried_again_is_waited_for() -> None:
    """While a mail is retried, the next step is not brought forward."""
    bob = Bob(step("0s", "email", "offender"), step("2h", "email", "admins"))
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.hears(WAIT, "retry") == []
    assert bob.due == WAIT + 2 * HOUR
    assert bob.hears(HOUR, "failed") == ["opened admins email unreached"]


def test_who_was_reached_once_is_reached(bob: Bob) -> None:
    """Once a user was reached, later failures bring no step forward."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.hears(WAIT, "refused", "wall") == ["opened offender email"]
    late = Bob()
    late.opens(0, "v1")
    late.at(WAIT)
    late.hears(WAIT, "delivered", "wall")
    assert late.runs(WAIT, 20 * MINUTE, "nobody") == ["605 reminder offender email"]


def test_without_proof_administrators_are_told_at_once(bob: Bob) -> None:
    """If no user is proven, administrators are notified at once, and nobody else."""
    bob.opens(0, "v1", person=None, uid=None, user="unknown", key="unknown")
    assert bob.at(WAIT) == ["opened admins email+webhook:chat unreached"]
    assert bob.drafts[0].person is None
    assert bob.runs(WAIT, 5 * HOUR) == [f"{4 * 3600 + 5} reminder admins email+webhook:chat"]


def test_steps_without_administrators_tell_them_if_nobody_is_reached() -> None:
    """If nobody was reached and no step names administrators, they are notified once."""
    bob = Bob(step("0s", "wall", "offender"))
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.hears(WAIT, "nobody") == ["opened admins email+wall+webhook:chat unreached"]
    assert bob.hears(WAIT, "nobody", draft=0) == []


def test_a_channel_that_is_off_is_passed_by() -> None:
    """A step whose channels are all disabled counts as one that reached nobody."""
    bob = Bob(channels=("log", "webhook:chat"))
    bob.opens(0, "v1")
    assert bob.at(WAIT) == ["opened offender log", "opened admins webhook:chat unreached"]


def test_no_channel_at_all_ends_nothing() -> None:
    """If all channels are disabled, nothing is sent and the state machine comes to rest."""
    bob = Bob(channels=())
    bob.opens(0, "v1")
    assert bob.runs(0, 24 * HOUR) == []
    bob.closes(25 * HOUR, "v1")
    assert bob.at(25 * HOUR + HOLD) == []
    assert bob.episode is None


def test_reminders_come_at_growing_intervals() -> None:
    """Reminders follow after 4, 8, 16 hours and so on up to the maximum, through all the user's channels."""
    bob = Bob(step("0s", "wall email", "offender"), repeat_longest=20 * 3600.0)
    bob.opens(0, "v1")
    told = bob.runs(0, 80 * HOUR)
    hours = [int(row.split()[0]) // 3600 for row in told]
    assert hours == [0, 4, 12, 28, 48, 68]
    assert {row.partition(" ")[2] for row in told[1:]} == {"reminder offender wall+email"}


def test_many_missed_reminders_are_one(bob: Bob) -> None:
    """After a month without a dispatcher, there is only one notice of each kind."""
    bob.opens(0, "v1")
    assert bob.at(700 * HOUR) == [NOW]
    bob.hears(700 * HOUR)
    assert len(bob.at(1400 * HOUR)) == 3  # Two steps, one reminder.
    assert bob.at(1400 * HOUR + 1) == []


def test_a_gpu_that_joins_makes_one_more_notice(bob: Bob) -> None:
    """Another GPU causes a notice with all open violations, at the earliest after `group_interval`."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    assert bob.opens(10 * SECOND, "v2", 1) == []
    assert bob.due == WAIT + 5 * MINUTE
    assert bob.at(WAIT + 5 * MINUTE) == ["changed offender wall+log"]
    assert named(bob) == ["v1", "v2"]


def test_a_gpu_that_joins_and_leaves_before_is_not_told(bob: Bob) -> None:
    """A GPU that is used and left before its notice is never mentioned."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    bob.opens(10 * SECOND, "v2", 1)
    assert bob.closes(20 * SECOND, "v2", 1) == []
    assert bob.at(WAIT + 5 * MINUTE) == []
    bob.closes(6 * MINUTE, "v1")
    assert bob.at(6 * MINUTE + HOLD) == ["resolved offender wall+log"]
    assert named(bob) == ["v1"]


def test_a_job_that_is_started_again_is_the_same_episode(bob: Bob) -> None:
    """A job that is restarted within `resolve_hold` continues its episode, with steps and reminders."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    assert bob.closes(MINUTE, "v1") == []
    assert bob.due == MINUTE + HOLD
    assert bob.opens(MINUTE + HOLD - 1, "v2") == []
    assert bob.runs(MINUTE + HOLD, 20 * MINUTE) == ["605 reminder offender email"]
    assert bob.drafts[-1].episode == "v1"


def test_a_job_that_never_lives_as_long_as_the_wait_is_told_of(bob: Bob) -> None:
    """A job that restarts before each notice is still reported."""
    told = []
    for turn in range(4):
        told += bob.opens(turn * 3 * SECOND, f"v{turn}")
        told += bob.closes(turn * 3 * SECOND + 2900, f"v{turn}")
    assert told == [NOW]


def test_resolved_comes_once_to_those_who_were_told(bob: Bob) -> None:
    """The resolved notice comes after `resolve_hold`, and only to those who were notified."""
    bob.at(0, (OPENED, violation("v1")), (OPENED, violation("v2", 1)))
    bob.at(WAIT)
    bob.hears(WAIT)
    assert bob.closes(10 * SECOND, "v1") == []
    assert bob.closes(11 * SECOND, "v2", 1) == []
    assert bob.at(11 * SECOND + HOLD - 1) == []
    assert bob.at(11 * SECOND + HOLD) == ["resolved offender wall+log"]
    assert named(bob) == ["v1", "v2"]
    assert bob.episode is None
    assert bob.closes(12 * MINUTE, "v2", 1) == []


def test_everybody_who_was_told_hears_that_it_is_over() -> None:
    """Each notified audience gets the resolved notice through the channels that were used for it."""
    bob = Bob(step("0s", "wall", "offender admins lab@example.com"), step("1m", "email", "offender admins"))
    bob.opens(0, "v1")
    bob.runs(0, 2 * MINUTE)
    bob.closes(3 * MINUTE, "v1")
    assert sorted(bob.at(3 * MINUTE + HOLD)) == [
        "resolved admins wall+email",
        "resolved lab@example.com wall",
        "resolved offender wall+email",
    ]


@pytest.mark.parametrize("reason", ["reserved", "exempted"])
def test_what_was_put_right_is_over_at_once(bob: Bob, reason: str) -> None:
    """If the user reserves the GPU, the resolved notice is sent immediately."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    assert bob.closes(MINUTE, "v1", reason=reason) == ["resolved offender wall+log"]
    assert bob.episode is None


def test_what_was_never_told_is_never_resolved(bob: Bob) -> None:
    """A violation that ends before its notice causes no resolved notice."""
    bob.opens(0, "v1")
    bob.closes(WAIT - 1, "v1")
    assert bob.at(WAIT + HOLD) == []
    assert bob.episode is None


def test_an_update_tells_nobody_but_is_shown(bob: Bob) -> None:
    """An update causes no notice, but the next notice has its facts; one after the end has no effect."""
    bob.opens(0, "v1")
    assert bob.at(1, (UPDATED, violation("v1", memory_mb=9))) == []
    bob.at(WAIT)
    assert bob.drafts[0].violations[0].memory_mb == 9
    bob.closes(10 * SECOND, "v1")
    assert bob.at(10 * SECOND + 1, (UPDATED, violation("v1"))) == []
    assert bob.episode
    assert not bob.episode.open


def test_facts_that_come_twice_change_nothing(bob: Bob) -> None:
    """A fact that is delivered twice causes no second notice and moves no timer."""
    bob.opens(0, "v1")
    bob.opens(SECOND, "v1")
    assert bob.due == WAIT
    assert bob.at(WAIT) == [NOW]
    before = bob.episode
    assert bob.opens(WAIT + 1, "v1") == []
    assert bob.episode == before
    bob.hears(WAIT + 2, "nobody", "wall")
    again = bob.episode
    assert bob.hears(WAIT + 3, "nobody", "wall", draft=0) == []
    assert bob.episode == again


def test_the_proven_person_is_told(bob: Bob) -> None:
    """One violation with proof is enough to notify the user."""
    bob.at(0, (OPENED, violation("v1", 0, person=None, uid=0)), (OPENED, violation("v2", 1)))
    bob.at(WAIT)
    assert (bob.drafts[0].person, bob.drafts[0].uid) == ("bob", 1001)
