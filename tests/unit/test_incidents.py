"""Notices to administrators about failures, and to users about their reservations, with a simulated clock."""

from typing import Any

import pytest
from support.attempts import attempt
from support.episode import ALL, MINUTE, SECOND, START

from canhazgpu.config.notices import Notices, Quiet
from canhazgpu.events.envelope import Event
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.workers.dispatch.incidents import Change, IncidentState, advance, channel_change
from canhazgpu.workers.dispatch.policy import Policy
from canhazgpu.workers.dispatch.reservation_notices import announce

POLICY = Policy(notices=Notices(contact="the lab"), channels=ALL)


class Subject:
    """A subject that may fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trouble: IncidentState | None = None

    def at(self, moment: int, reason: str | None = None) -> list[str]:
        """Let it fail, recover (no reason), or let time pass (None); return the notices."""
        changes = [] if reason is None else [Change(time=rfc3339(START + moment), reason=reason)]
        self.trouble, drafts = advance(self.name, self.trouble, changes, START + moment, POLICY)
        assert self.trouble is None or (self.trouble.due_ms or START + moment + 1) > START + moment
        return [f"{draft.kind} {'+'.join(draft.channels)}" for draft in drafts]


def test_a_failure_is_told_once_and_so_is_its_end() -> None:
    """A failure is reported after `incident_wait`, and its end after `resolve_hold`."""
    gpu = Subject("gpu/3")
    assert gpu.at(0, "GPU is lost") == []
    assert gpu.at(10 * SECOND, "GPU is lost") == []
    assert gpu.at(MINUTE) == ["gpu-failed email+wall+webhook:chat"]
    assert gpu.at(2 * MINUTE, "GPU is lost") == []
    assert gpu.at(3 * MINUTE, "") == []
    assert gpu.at(4 * MINUTE, "again") == []
    assert gpu.at(5 * MINUTE, "") == []
    assert gpu.at(7 * MINUTE - 1) == []
    assert [one.split()[0] for one in gpu.at(7 * MINUTE)] == ["gpu-recovered"]
    assert gpu.trouble is None
    assert gpu.at(8 * MINUTE, "") == []


def test_what_recovers_soon_is_not_told() -> None:
    """A failure that recovers soon is not reported, and neither is its end."""
    scanner = Subject("scanner")
    assert scanner.at(0, "no answer") == []
    assert scanner.at(59 * SECOND, "") == []
    assert scanner.trouble is None


def test_a_channel_has_more_time_and_does_not_carry_its_own_failure() -> None:
    """A failure of a channel is reported after ten times `incident_wait`, through the other channels."""
    mail = Subject("channel/email")
    assert mail.at(0, "connection refused") == []
    assert mail.at(9 * MINUTE, "connection refused") == []
    assert mail.at(10 * MINUTE) == ["channel-failing wall+webhook:chat"]
    assert mail.at(11 * MINUTE, "") == []
    assert mail.at(13 * MINUTE) == ["channel-recovered wall+webhook:chat"]


@pytest.mark.parametrize(
    ("channel", "outcome", "detail", "fails"),
    [
        ("email", "delivered", "", False),
        ("email", "retry", "451 greylisted", True),
        ("email", "failed", "550 no such user", False),  # It answers: that is about this address.
        ("email", "failed", "not an email address", None),
        ("wall", "nobody", "has no terminal", None),
        ("webhook:chat", "failed", "404 Not Found", True),  # That is the channel's own address.
        ("log", "retry", "No space left on device", True),
    ],
)
def test_what_an_attempt_says_of_its_channel(
    channel: str, outcome: str, detail: str, *, fails: bool | None
) -> None:
    """An attempt shows that its channel fails, that it works, or neither."""
    change = channel_change(attempt(channel=channel, outcome=outcome, detail=detail))
    assert (None if change is None else bool(change.reason)) is fails


def reservation(verb: str, **facts: Any) -> Event:
    """Return an event about a reservation of bob's."""
    data: dict[str, Any] = {
        "id": "r1",
        "kind": "manual",
        "user": "bob",
        "uid": 1001,
        "gpus": [1, 2],
        "started": rfc3339(START),
        **facts,
    }
    return Event(
        id="1-1", source="//h/canhazgpu", type=f"canhazgpu.reservation.{verb}", subject="reservation/r1",
        time=rfc3339(START), data=data,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (reservation("created"), None),
        (reservation("created", queued=rfc3339(START - 4000)), None),
        (reservation("created", queued=rfc3339(START - 6000)), "granted wall"),
        (reservation("expiring", expires=rfc3339(START + MINUTE)), "expiring wall+email"),
        (reservation("idle", idle=rfc3339(START)), "idle wall+email"),
        (reservation("used"), None),
        (reservation("extended"), None),
        (reservation("released", reason="released"), None),
        (reservation("released", reason="undelivered", by="bob"), "released wall"),
        (reservation("released", reason="expired"), None),
        (reservation("released", reason="exited", kind="run"), None),
        (reservation("released", reason="released", kind="run"), "unreserved wall"),
        (reservation("released", reason="admin", by="root"), "released wall+email"),
        (reservation("released", reason="idle"), "released wall+email"),
        (reservation("released", reason="lost"), "released wall+email"),
        (reservation("released", reason="unmanaged"), "released wall+email"),
        (reservation("released", reason="vanished"), "released wall+email"),
    ],
)
def test_what_a_user_hears_of_their_reservation(event: Event, told: str | None) -> None:
    """Users are notified of changes to their reservations by others, not of their own."""
    drafts = announce(event, START + 1000, POLICY)
    assert [f"{draft.kind} {'+'.join(draft.channels)}" for draft in drafts] == ([told] if told else [])
    for draft in drafts:
        assert (draft.user, draft.uid, draft.person, draft.contact) == ("bob", 1001, "bob", "the lab")


def test_old_news_are_no_news() -> None:
    """Events that are hours old cause no notice, except the loss of a reservation."""
    late = START + 2 * 60 * MINUTE
    assert announce(reservation("created", queued=rfc3339(START - 60_000)), late, POLICY) == []
    assert announce(reservation("expiring"), late, POLICY) == []
    assert announce(reservation("released", reason="admin", by="root"), late, POLICY) != []


def test_a_notice_that_is_switched_off_is_not_made() -> None:
    """Without an enabled channel no notice is created."""
    policy = Policy(notices=Notices(idle=[], expiring=["email"]), channels=("wall",))
    assert announce(reservation("idle"), START, policy) == []
    assert announce(reservation("expiring"), START, policy) == []


NIGHT = Policy(
    notices=Notices(quiet=Quiet(hours="22:00-07:00", timezone="UTC"), incident_wait=0.0), channels=ALL
)


def test_quiet_hours_hold_back_every_mail() -> None:
    """In quiet hours (START is 02:00) mail waits until 07:00, unless it would then be out of date."""
    morning = rfc3339(START + 5 * 60 * MINUTE)
    lost = announce(reservation("released", reason="admin", by="root"), START, NIGHT)
    assert [(draft.channels, draft.not_before) for draft in lost] == [
        (("wall",), None),
        (("email",), morning),
    ]
    soon = announce(reservation("expiring", expires=rfc3339(START + MINUTE)), START, NIGHT)
    assert [draft.channels for draft in soon] == [("wall",)]
    _, failed = advance("gpu/1", None, [Change(time=rfc3339(START), reason="lost")], START, NIGHT)
    assert [(draft.channels, draft.not_before) for draft in failed] == [
        (("wall", "webhook:chat"), None),
        (("email",), morning),
    ]
