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
CHANNEL_PATIENCE = 10  # Channels retry by themselves.


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A failure, or (without `reason`) a recovery, at `time` (RFC 3339).

    `called`: the current name of the subject, if it differs from the name of the incident's state.
    """

    time: str
    reason: str = ""
    remedy: str = ""
    called: str = ""


class Trouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of an incident. `well`: the time of the recovery, if it has recovered."""

    incident: Incident
    tell_ms: int | None = None
    clear_ms: int | None = None
    well: str | None = None
    told: bool = False
    due_ms: int | None = None


def advance(
    subject: str, trouble: Trouble | None, changes: list[Change], now_ms: int, policy: Policy
) -> tuple[Trouble | None, list[Draft]]:
    """Return the incident (or None) after `changes` and the due steps, and the notices to send."""
    for change in changes:
        if trouble and change.called:
            now = msgspec.structs.replace(trouble.incident, subject=change.called)
            trouble = msgspec.structs.replace(trouble, incident=now)
        trouble = _apply(subject, trouble, change, now_ms, policy)
    if trouble is None:
        return None, []
    drafts: list[Draft] = []
    if trouble.tell_ms is not None and trouble.tell_ms <= now_ms:
        trouble = msgspec.structs.replace(trouble, tell_ms=None, told=True)
        drafts += apply_quiet_hours(
            _draft(trouble.incident, KINDS[_family(subject)][0], policy), now_ms, policy
        )
    if trouble.clear_ms is not None and trouble.clear_ms <= now_ms:
        ended = msgspec.structs.replace(trouble.incident, ended=trouble.well)
        return None, [
            *drafts,
            *apply_quiet_hours(_draft(ended, KINDS[_family(subject)][1], policy), now_ms, policy),
        ]
    moments = [ms for ms in (trouble.tell_ms, trouble.clear_ms) if ms is not None]
    return msgspec.structs.replace(trouble, due_ms=min(moments, default=None)), drafts


def of_channel(attempt: Delivery) -> Change | None:
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
    subject: str, trouble: Trouble | None, change: Change, now_ms: int, policy: Policy
) -> Trouble | None:
    if change.reason:
        if trouble is None:
            wait = policy.notices.incident_wait * (CHANNEL_PATIENCE if _family(subject) == "channel" else 1)
            incident = Incident(
                subject=change.called or subject,
                reason=change.reason,
                remedy=change.remedy,
                since=change.time,
            )
            return Trouble(incident=incident, tell_ms=now_ms + round(wait * 1000))
        return msgspec.structs.replace(trouble, clear_ms=None, well=None)
    if trouble is None or not trouble.told:
        return None
    if trouble.clear_ms is not None:
        return trouble
    return msgspec.structs.replace(trouble, clear_ms=now_ms + policy.hold_ms(), well=change.time)


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
