"""Silences and quiet hours: what is not sent during them, and what is sent when they end."""

import msgspec
import pytest
from support.episode import HOLD, HOUR, MINUTE, START, WAIT, Bob, silence, step, violation

from canhazgpu.config.notices import Quiet
from canhazgpu.events.notices import Notice
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import OPENED, UPDATED
from canhazgpu.notifiers.messages.plain_text import lines

NOW = "opened offender wall+log"


@pytest.fixture
def bob() -> Bob:
    """A user without history, with the default settings."""
    return Bob()


def named(bob: Bob, draft: int = -1) -> list[str]:
    """Return the ids of the violations in a notice."""
    return [one.violation for one in bob.drafts[draft].violations]


def test_a_silence_stops_notices_and_ends() -> None:
    """While a silence covers all violations nothing is sent; when it ends, a notice has the open ones."""
    bob = Bob()
    bob.silences = [silence(10 * MINUTE + START, user="bob")]
    bob.opens(0, "v1")
    assert bob.runs(0, 10 * MINUTE - 1) == []
    assert bob.due == 10 * MINUTE
    assert bob.at(10 * MINUTE) == [NOW]


def test_a_silence_that_is_ended_by_hand_ends_at_once(bob: Bob) -> None:
    """If a silence is ended early, the notice follows at once."""
    bob.silences = [silence(10 * HOUR + START, gpu=0)]
    bob.opens(0, "v1")
    assert bob.at(HOUR) == []
    bob.silences = []
    assert bob.at(HOUR + 1) == [NOW]


def test_a_silence_covers_no_other_gpu(bob: Bob) -> None:
    """A notice has only the violations that are not silenced; the others follow when the silence ends."""
    bob.silences = [silence(HOUR + START, gpu=1)]
    bob.at(0, (OPENED, violation("v1", 0)), (OPENED, violation("v2", 1)))
    assert bob.at(WAIT) == [NOW]
    assert named(bob) == ["v1"]
    bob.hears(WAIT)
    assert bob.runs(WAIT, HOUR - 1) == ["605 reminder offender email"]
    assert bob.at(HOUR) == ["changed offender wall+log+email"]
    assert named(bob) == ["v1", "v2"]


def test_a_silence_after_the_notice_does_not_hide_the_end(bob: Bob) -> None:
    """A user who was notified before the silence gets the resolved notice."""
    bob.opens(0, "v1")
    bob.at(WAIT)
    bob.hears(WAIT)
    bob.silences = [silence(100 * HOUR + START, user="bob")]
    assert bob.runs(WAIT, HOUR) == []
    bob.closes(HOUR, "v1")
    assert bob.at(HOUR + HOLD) == ["resolved offender wall+log"]


def test_mail_waits_for_the_end_of_quiet_hours() -> None:
    """In quiet hours (START is 02:00) the mail waits until 07:00; terminals are written to at once."""
    bob = Bob(quiet=Quiet(hours="22:00-07:00", timezone="UTC"))
    bob.opens(0, "v1")
    assert bob.runs(0, 4 * HOUR) == ["5 opened offender wall+log", "3605 opened admins webhook:chat"]
    assert bob.runs(4 * HOUR, 5 * HOUR) == [
        "14405 reminder offender wall+log",
        "18000 reminder offender email",
        "18000 opened admins email",
    ]


def test_what_ends_in_quiet_hours_is_never_mailed() -> None:
    """A violation that starts and ends in quiet hours is never mailed."""
    bob = Bob(step("0s", "wall email", "offender"), quiet=Quiet(hours="22:00-07:00", timezone="UTC"))
    bob.opens(0, "v1")
    assert bob.at(WAIT) == ["opened offender wall"]
    bob.hears(WAIT)
    bob.closes(HOUR, "v1")
    assert bob.at(HOUR + HOLD) == ["resolved offender wall"]
    assert bob.episode is None


def test_the_end_of_what_was_mailed_waits_for_the_end_of_quiet_hours() -> None:
    """In quiet hours the resolved mail waits for the morning; terminals are written to at once."""
    bob = Bob(step("0s", "wall email", "offender"), quiet=Quiet(hours="22:00-07:00", timezone="UTC"))
    bob.opens(5 * HOUR, "v1")
    assert bob.at(5 * HOUR + WAIT) == ["opened offender wall+email"]
    bob.hears(5 * HOUR + WAIT)
    bob.closes(21 * HOUR, "v1")
    assert bob.at(21 * HOUR + HOLD) == ["resolved offender wall", "resolved offender email"]
    assert [draft.not_before for draft in bob.drafts[-2:]] == [None, rfc3339(START + 29 * HOUR)]
    assert bob.episode is None


@pytest.mark.parametrize(("most", "offered"), [(0.0, False), (3600.0, True)])
def test_an_acknowledgement_is_offered_where_there_is_one(most: float, offered: bool) -> None:  # noqa: FBT001
    """A notice suggests an acknowledgement only if it would be accepted."""
    bob = Bob(ack_max=most)
    bob.opens(0, "v1")
    bob.at(WAIT)
    facts = msgspec.structs.asdict(bob.drafts[0]) | {
        "notice": "n1",
        "host": "h",
        "created": "x",
        "episode": "v1",
    }
    assert ("silence ack" in "\n".join(lines(Notice(**facts)))) == offered


def test_an_acknowledgement_covers_what_was_there_and_no_trespass() -> None:
    """An acknowledgement covers neither another GPU nor a GPU that was reserved since."""
    bob = Bob()
    bob.silences = [silence(100 * HOUR + START, user="bob", ack=True, gpus=(0,))]
    bob.at(0, (OPENED, violation("v1", 0)), (OPENED, violation("v2", 1)))
    assert bob.at(WAIT) == [NOW]
    assert named(bob) == ["v2"]
    bob.hears(WAIT)
    bob.at(HOUR, (UPDATED, violation("v1", kind="trespass", holder="alice")))
    bob.at(HOUR + WAIT + 5 * MINUTE)
    assert "alice" in {draft.person for draft in bob.drafts}


@pytest.mark.parametrize(
    ("uid", "ended_ms", "offered"),
    [
        (1001, START - 5 * HOUR, True),  # Of an earlier episode, and long ago.
        (1001, START - MINUTE, False),  # Before this one, but there is one in so long a time.
        (1001, START + MINUTE, False),  # Of this one: it is used up.
        (1002, START + MINUTE, True),  # Somebody else's.
    ],
)
def test_what_would_be_refused_is_not_offered(bob: Bob, uid: int, ended_ms: int, *, offered: bool) -> None:
    """A user can acknowledge an episode only once, so a notice does not suggest it again."""
    bob.acks = {uid: ended_ms}
    bob.at(0, (OPENED, violation("v1", since=rfc3339(START))))
    assert bob.runs(0, 5 * MINUTE) == ["5 opened offender wall+log"]
    assert [draft.may_ack for draft in bob.drafts] == [offered]


def test_what_waits_for_the_morning_keeps_what_it_says() -> None:
    """After quiet hours, one notice tells administrators which users could not be reached."""
    steps = (step("0s", "wall log", "offender holder"), step("1h", "email", "admins"))
    bob = Bob(*steps, admin_channels=["email"], quiet=Quiet(hours="22:00-07:00", timezone="UTC"))
    bob.opens(0, "v1", 3, kind="trespass", holder="carol")
    bob.at(WAIT)
    bob.hears(WAIT, draft=-2)
    bob.hears(WAIT, "nobody", "wall")
    told = [row.partition(" ")[2] for row in bob.runs(WAIT, 6 * HOUR) if "admins" in row]
    assert told == ["opened admins email unreached carol"]
