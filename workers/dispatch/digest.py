"""The digest: a summary for administrators of what happened since the last one."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec

from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import (
    ADMINS,
    OFFENDER,
    REACHED,
    Delivery,
    Digest,
    DigestUser,
    Incident,
    Notice,
    is_personal,
)
from canhazgpu.events.reservations import Reservation
from canhazgpu.events.timestamps import ms_of, rfc3339
from canhazgpu.events.violations import Violation
from canhazgpu.workers.dispatch.drafts import Draft
from canhazgpu.workers.dispatch.policy import Policy

GROUP = "digest"
RECOVERIES = frozenset({"canhazgpu.gpu.recovered", "canhazgpu.scanner.resumed"})
INCIDENTS = frozenset({"stalled", "gpu-failed", "channel-failing"})


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a digest: the events of its period, oldest first, and the open violations."""

    violations: list[Event]
    notices: list[Event]
    deliveries: list[Event]
    events: list[Event]
    open: list[Violation]


def summarise(material: Material, since_ms: int, until_ms: int, repeater: int) -> Digest:
    """Return the digest from `since_ms` to `until_ms`. Earlier violations count from `since_ms`."""
    latest = {one.violation: one for one in material.open}
    for event in material.violations:
        if event.type.startswith("canhazgpu.violation."):
            one = msgspec.convert(event.data, Violation)
            latest[one.violation] = one
    notices = [msgspec.convert(event.data, Notice) for event in material.notices]
    attempts = [msgspec.convert(event.data, Delivery) for event in material.deliveries]
    missed = _missed(notices, attempts)
    rows: dict[str, list[Violation]] = defaultdict(list)
    for one in latest.values():
        rows[one.user].append(one)
    users = [
        DigestUser(
            user=user,
            violations=len(own),
            gpu_hours=round(sum(_hours(one, since_ms, until_ms) for one in own), 2),
            open=sum(one.closed is None for one in own),
            unreached=sum(one.violation in missed for one in own),
        )
        for user, own in rows.items()
    ]
    failures = Counter(
        one.channel for one in attempts if one.outcome == "failed" or (one.outcome == "retry" and one.final)
    )
    return Digest(
        since=rfc3339(since_ms),
        until=rfc3339(until_ms),
        users=tuple(sorted(users, key=lambda one: (-one.gpu_hours, one.user))),
        repeaters=tuple(sorted(one.user for one in users if one.violations >= repeater)),
        idle=tuple(_idle(material.events)),
        failures=dict(sorted(failures.items())),
        incidents=tuple(
            _ended(one.incident, material.events, notices)
            for one in notices
            if one.incident and one.kind in INCIDENTS
        ),
    )


def draft(digest: Digest, policy: Policy) -> Draft:
    """Return the notice that carries a digest."""
    return Draft(
        kind="digest",
        group=GROUP,
        user="",
        uid=None,
        person=None,
        audience=ADMINS,
        channels=policy.concrete(policy.notices.admin_channels),
        digest=digest,
        contact=policy.notices.contact,
    )


def _missed(notices: Iterable[Notice], attempts: Iterable[Delivery]) -> set[str]:
    """Return the violations whose user should have been notified, but was not."""
    reached = {one.notice for one in attempts if one.outcome in REACHED and is_personal(one.channel)}
    tried: dict[str, bool] = {}
    for notice in notices:
        if notice.audience == OFFENDER and notice.kind != "resolved":
            for one in notice.violations:
                tried[one.violation] = tried.get(one.violation, False) or notice.notice in reached
    return {violation for violation, told in tried.items() if not told}


def _idle(events: Iterable[Event]) -> Iterable[Reservation]:
    found: dict[str, Reservation] = {}
    for event in events:
        if event.type == "canhazgpu.reservation.idle":
            held = msgspec.convert(event.data, Reservation)
            found[held.id] = held
    return found.values()


def _ended(incident: Incident, events: Iterable[Event], notices: Iterable[Notice]) -> Incident:
    """Return an incident, with its end if it has ended."""
    told = [one.incident.ended for one in notices if one.incident and one.incident.since == incident.since]
    seen = [
        one.time
        for one in events
        if one.type in RECOVERIES and one.subject == incident.subject and one.time > incident.since
    ]
    ends = [end for end in (*told, *seen) if end]
    return msgspec.structs.replace(incident, ended=min(ends, default=None))


def _hours(violation: Violation, since_ms: int, until_ms: int) -> float:
    began = max(since_ms, ms_of(violation.since))
    ended = min(until_ms, ms_of(violation.closed) if violation.closed else until_ms)
    return max(0.0, ended - began) / 3_600_000
