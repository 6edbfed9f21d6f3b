"""Decides when administrators are notified of failures: a pure state machine, one incident per subject.

A failure that recovers within `incident_wait` (for a channel: ten times that) is not reported. Otherwise
there is one notice, and another one after it has been well for `resolve_hold`. Another failure before that
belongs to the same incident.
"""

import msgspec

from canhazgpu.events.notices import ADMINS, REACHED, Delivery, Incident, is_personal
from canhazgpu.workers.dispatch.drafts import Draft, apply_quiet_hours
from canhazgpu.workers.dispatch.policy import Policy

KINDS = {
    "scanner": ("stalled", "resumed"),
    "gpu": ("gpu-failed", "gpu-recovered"),
    "channel": ("channel-failing", "channel-recovered"),
}
CHANNEL_WAIT_FACTOR = 10  # Channels retry by themselves.

STORED_NAMES = {  # In Redis, fields keep the names that they had when the state was first stored.
    "notified": "told",
    "notify_ms": "tell_ms",
    "recovered_at": "well",
    "resolve_ms": "clear_ms",
}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A failure, or (without `reason`) a recovery, at `time` (RFC 3339).

    `called`: the current name of the subject, if it differs from the name of the incident's state.
    """

    time: str
    reason: str = ""
    remedy: str = ""
    called: str = ""


class IncidentState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=STORED_NAMES):
    """The state of an incident. `recovered_at`: the time of the recovery, if it has recovered."""

    incident: Incident
    notify_ms: int | None = None
    resolve_ms: int | None = None
    recovered_at: str | None = None
    notified: bool = False
    due_ms: int | None = None


def advance(
    subject: str, state: IncidentState | None, changes: list[Change], now_ms: int, policy: Policy
) -> tuple[IncidentState | None, list[Draft]]:
    """Return the incident (or None) after `changes` and the due steps, and the notices to send."""
    for change in changes:
        if state and change.called:
            now = msgspec.structs.replace(state.incident, subject=change.called)
            state = msgspec.structs.replace(state, incident=now)
        state = _apply(subject, state, change, now_ms, policy)
    if state is None:
        return None, []
    drafts: list[Draft] = []
    if state.notify_ms is not None and state.notify_ms <= now_ms:
        state = msgspec.structs.replace(state, notify_ms=None, notified=True)
        drafts += apply_quiet_hours(
            _draft(state.incident, KINDS[_family(subject)][0], policy), now_ms, policy
        )
    if state.resolve_ms is not None and state.resolve_ms <= now_ms:
        ended = msgspec.structs.replace(state.incident, ended=state.recovered_at)
        return None, [
            *drafts,
            *apply_quiet_hours(_draft(ended, KINDS[_family(subject)][1], policy), now_ms, policy),
        ]
    moments = [ms for ms in (state.notify_ms, state.resolve_ms) if ms is not None]
    return msgspec.structs.replace(state, due_ms=min(moments, default=None)), drafts


def channel_change(attempt: Delivery) -> Change | None:
    """Return what an attempt shows about its channel. A permanent refusal of one address is no failure."""
    lost = attempt.outcome == "failed"
    answered = lost and is_personal(attempt.channel) and attempt.detail[:3].isdigit()
    if attempt.outcome == "retry" or (lost and not is_personal(attempt.channel)):
        remedy = f"test it with `canhazgpu notify test --channel {attempt.channel}`"
        return Change(time=attempt.time, reason=attempt.detail or "nothing is delivered", remedy=remedy)
    return Change(time=attempt.time) if answered or attempt.outcome in REACHED else None


def _family(subject: str) -> str:
    return subject.partition("/")[0]


def _apply(
    subject: str, state: IncidentState | None, change: Change, now_ms: int, policy: Policy
) -> IncidentState | None:
    if change.reason:
        if state is None:
            wait = policy.notices.incident_wait * (
                CHANNEL_WAIT_FACTOR if _family(subject) == "channel" else 1
            )
            incident = Incident(
                subject=change.called or subject,
                reason=change.reason,
                remedy=change.remedy,
                since=change.time,
            )
            return IncidentState(incident=incident, notify_ms=now_ms + round(wait * 1000))
        return msgspec.structs.replace(state, resolve_ms=None, recovered_at=None)
    if state is None or not state.notified:
        return None
    if state.resolve_ms is not None:
        return state
    return msgspec.structs.replace(state, resolve_ms=now_ms + policy.hold_ms(), recovered_at=change.time)


def _draft(incident: Incident, kind: str, policy: Policy) -> Draft:
    failed = incident.subject.removeprefix("channel/")
    names = [name for name in policy.concrete(policy.notices.admin_channels) if name != failed]
    return Draft(
        kind=kind,
        episode=f"{incident.subject} {incident.since}",
        group=f"incident {incident.subject}",
        user="",
        uid=None,
        person=None,
        audience=ADMINS,
        channels=tuple(names),
        incident=incident,
        contact=policy.notices.contact,
    )
