"""Whether a user was notified, for every combination of notices and attempts."""

from typing import Any

import pytest
from support.event_history import HOUR, NOW, violation

from canhazgpu.events.silences import Silence
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import Violation
from canhazgpu.service.violations.notification_status import (
    Attempt,
    NoticeSummary,
    NotificationStatus,
    NotificationTracker,
    _Named,
)

OPEN = violation(NOW - HOUR)
CLOSED = violation(NOW - HOUR, closed=rfc3339(NOW), reason="stopped", duration_s=3600)
UNPROVEN = violation(NOW - HOUR, person=None)
WALL = {"n1": ["wall", "log"]}
BOTH = {"n1": ["wall", "log"], "n2": ["email"]}


def _verdict(
    one: Violation,
    notices: dict[str, list[str]],
    *attempts: str,
    missed: bool = False,
    silences: tuple[Silence, ...] = (),
    known_ms: int = 0,
    **facts: Any,
) -> NotificationStatus:
    telling = NotificationTracker([one])
    about = (_Named(one.violation), _Named("v0-0"))
    for name, channels in notices.items():
        values: dict[str, Any] = {"kind": "opened", **facts}
        telling.notice(NoticeSummary(notice=name, channels=tuple(channels), violations=about, **values), NOW)
    if missed:
        telling.notice(
            NoticeSummary(notice="n9", kind="opened", audience="admins", unreached=True, violations=about),
            NOW,
        )
    for place, text in enumerate(attempts):
        notice, channel, outcome = text.split()
        telling.attempt(
            Attempt(
                notice=notice, channel=channel, outcome=outcome, time=f"t{place}", final=outcome != "retry"
            )
        )
    return telling.statuses(silences, known_ms)[one.violation]


@pytest.mark.parametrize(
    ("notices", "attempts", "missed", "while_open", "once_closed"),
    [
        ({}, [], False, None, None),
        (WALL, [], False, "pending", "pending"),
        (WALL, ["n1 log delivered"], False, "pending", "pending"),
        (WALL, ["n1 wall delivered"], False, "reached", "reached"),
        (WALL, ["n1 wall unproven"], False, "reached", "reached"),
        (WALL, ["n1 wall nobody"], False, "pending", "unreached"),
        (WALL, ["n1 wall nobody"], True, "unreached", "unreached"),
        (WALL, ["n1 wall refused", "n1 wall delivered"], False, "reached", "reached"),
        (WALL, ["n1 wall retry"], False, "pending", "pending"),
        (WALL, ["n1 wall retry", "n1 wall failed"], False, "pending", "unreached"),
        (WALL, ["n1 wall dry-run"], False, "pending", "unreached"),
        (BOTH, ["n1 wall nobody", "n2 email retry"], False, "pending", "pending"),
        (BOTH, ["n1 wall nobody", "n2 email failed"], False, "pending", "unreached"),
        (BOTH, ["n1 wall nobody", "n2 email retry", "n2 email delivered"], True, "reached", "reached"),
        ({"n1": ["webhook:chat"]}, ["n1 webhook:chat failed"], False, "pending", "unreached"),
        ({"n1": ["webhook"]}, ["n1 webhook:chat failed"], False, "pending", "unreached"),
        ({"n1": []}, [], False, "pending", "pending"),
        ({"n1": []}, ["n1 wall nobody"], False, "pending", "unreached"),
        ({"n1": []}, ["n1 wall nobody", "n1 email retry"], False, "pending", "pending"),
        ({"n1": ["log"]}, ["n1 log delivered"], False, "pending", "unreached"),
        ({}, [], True, "unreached", "unreached"),
        (WALL, ["n2 wall delivered"], False, "pending", "pending"),
    ],
)
def test_who_is_proven_was_told_or_not(
    notices: dict[str, list[str]],
    attempts: list[str],
    missed: bool,  # noqa: FBT001 - a column of the table
    while_open: str | None,
    once_closed: str | None,
) -> None:
    """The log reaches nobody; while a violation is open, only the dispatcher can report it as unreached."""
    assert _verdict(OPEN, notices, *attempts, missed=missed).told == while_open
    assert _verdict(CLOSED, notices, *attempts, missed=missed).told == once_closed


def test_the_first_delivery_that_reached_them_counts() -> None:
    """The time shown is that of the first delivery that reached the user, in any notice."""
    assert _verdict(OPEN, BOTH, "n2 email delivered", "n1 wall delivered") == NotificationStatus(
        "reached", "t0"
    )


def test_nobody_proven_is_nobody_told() -> None:
    """Without a proven user, or without a notice to the offender, there is no status."""
    assert _verdict(UNPROVEN, {}, missed=True) == NotificationStatus()


@pytest.mark.parametrize("facts", [{"kind": "resolved"}, {"kind": "terminate"}, {"audience": "holder"}])
def test_only_what_tells_the_offender_counts(facts: dict[str, Any]) -> None:
    """Resolved notices, signals, and notices to others do not count."""
    assert _verdict(OPEN, WALL, "n1 wall delivered", **facts) == NotificationStatus()


def test_a_silence_that_covers_it_now_is_said() -> None:
    """A current silence is shown for an open violation, unless its user was reached or missed before."""
    covering = Silence(id="s", by="root", by_uid=0, since="x", until="x", until_ms=1, reason="r", user="bob")
    other = Silence(id="s", by="root", by_uid=0, since="x", until="x", until_ms=1, reason="r", user="ann")
    assert _verdict(OPEN, {}, silences=(covering,)).told == "silenced"
    assert _verdict(OPEN, {}, silences=(other,)).told is None
    assert _verdict(CLOSED, {}, silences=(covering,)).told is None
    assert _verdict(OPEN, WALL, "n1 wall delivered", silences=(covering,)).told == "reached"
    assert _verdict(OPEN, {}, missed=True, silences=(covering,)).told == "unreached"


def test_of_what_is_not_kept_any_more_nothing_is_claimed() -> None:
    """If the attempts for a notice may have been removed, the status is not known."""
    assert _verdict(CLOSED, WALL, known_ms=NOW + 1) == NotificationStatus()
    assert _verdict(CLOSED, WALL, known_ms=NOW - 1).told == "pending"
    assert _verdict(CLOSED, WALL, missed=True, known_ms=NOW + 1).told == "unreached"


def test_a_dead_letter_that_is_tried_again_is_the_same_notice() -> None:
    """A replayed dead letter counts as the same notice."""
    telling = NotificationTracker([CLOSED])
    spoken = NoticeSummary(
        notice="n1", kind="opened", channels=("wall",), violations=(_Named(CLOSED.violation),)
    )
    telling.notice(spoken, NOW)
    telling.attempt(Attempt(notice="n1", channel="wall", outcome="failed", time="t0"))
    telling.notice(spoken, NOW)
    assert telling.statuses((), 0)[CLOSED.violation].told == "unreached"
    telling.attempt(Attempt(notice="n1", channel="wall", outcome="delivered", time="t1"))
    assert telling.statuses((), 0)[CLOSED.violation] == NotificationStatus("reached", "t1")
