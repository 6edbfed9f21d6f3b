"""The digest sums up the facts, notices, deliveries and events of its period."""

from typing import Any

import msgspec
from support.episode import HOUR, START, violation

from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import Delivery, Incident, Notice
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import CLOSED, OPENED
from canhazgpu.workers.dispatch.digest import Material, summarise


def event(kind: str, data: Any, moment: int = 0, subject: str = "x") -> Event:
    """Return an event at a time after START."""
    return Event(
        id="1-1",
        source="s",
        type=kind,
        subject=subject,
        time=rfc3339(START + moment),
        data=msgspec.to_builtins(data),
    )


def notice(name: str, **facts: Any) -> Notice:
    """Return a notice to bob."""
    values: dict[str, Any] = {
        "notice": name,
        "kind": "opened",
        "episode": "v1",
        "host": "h",
        "user": "bob",
        "uid": 1001,
        "person": "bob",
        "created": "x",
        **facts,
    }
    return Notice(**values)


def attempt(name: str, channel: str, outcome: str, *, final: bool = True) -> Event:
    """Return a delivery attempt for a notice."""
    one = Delivery(
        notice=name,
        kind="opened",
        channel=channel,
        recipient="x",
        outcome=outcome,
        attempt=1,
        time="x",
        final=final,
    )
    return event("canhazgpu.notice.attempted", one)


def test_a_day() -> None:
    """GPU hours are cut to the period.

    Users who were not notified are counted, and ended failures have an end.
    """
    since = rfc3339(START - HOUR)
    first = violation("v1", since=since)
    ended = violation("v1", since=since, closed=rfc3339(START + HOUR), reason="stopped")
    second = violation("v2", 1, since=rfc3339(START + HOUR))
    gpu = Incident(subject="gpu/3", reason="lost", since=rfc3339(START))
    mail = Incident(subject="channel/email", reason="refused", since=rfc3339(START))
    found = summarise(
        Material(
            violations=[event(OPENED, first), event(CLOSED, ended), event(OPENED, second)],
            notices=[
                event("canhazgpu.notice.created", one)
                for one in (
                    notice("n1", violations=(first,)),
                    notice("n2", violations=(second,)),
                    notice("n3", kind="gpu-failed", incident=gpu, audience="admins"),
                    notice("n4", kind="channel-failing", incident=mail, audience="admins"),
                )
            ],
            deliveries=[
                attempt("n1", "wall", "delivered"),
                attempt("n2", "wall", "nobody"),
                attempt("n2", "log", "delivered"),
                attempt("n2", "webhook:chat", "delivered"),
                attempt("n2", "email", "retry", final=False),
                attempt("n2", "email", "retry"),
                attempt("n1", "email", "failed"),
            ],
            events=[event("canhazgpu.gpu.recovered", {}, 2 * HOUR, "gpu/3")],
            open=[second],
        ),
        START,
        START + 3 * HOUR,
        repeater=2,
    )
    (bob,) = found.users
    assert (bob.violations, bob.gpu_hours, bob.open, bob.unreached) == (2, 3.0, 1, 1)
    assert found.repeaters == ("bob",)
    assert found.failures == {"email": 2}
    assert [(one.subject, one.ended) for one in found.incidents] == [
        ("gpu/3", rfc3339(START + 2 * HOUR)),
        ("channel/email", None),
    ]
