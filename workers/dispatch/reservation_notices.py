"""Creates notices to users about their own reservations. Each is decided from one event alone."""

import msgspec

from canhazgpu.events.envelope import Event
from canhazgpu.events.reservations import RUN, SCHEDULERS, Reservation
from canhazgpu.events.timestamps import ms_of
from canhazgpu.workers.dispatch.drafts import Draft, apply_quiet_hours
from canhazgpu.workers.dispatch.policy import Policy

WAITED = 5.0  # Seconds; a user who waited for less has seen the answer.
STALE_MS = 3_600_000  # Older events are not announced: the workers were not running.
PASSING = frozenset({"canhazgpu.reservation.created", "canhazgpu.reservation.expiring"})
# The scheduler tells its users that their jobs begin and end.
OF_JOBS = frozenset({"canhazgpu.reservation.created", "canhazgpu.reservation.released"})
BY_OTHERS = frozenset(
    {"admin", "idle", "lost", "unmanaged", "vanished"}
)  # Reasons for a release that the user did not request.


def may_concern(event: Event, policy: Policy) -> bool:
    """Return whether there may be a notice for an event. Raises msgspec.ValidationError."""
    held = msgspec.convert(event.data, Reservation)
    return bool(_kind(event.type, held, policy)[0])


def announce(event: Event, now_ms: int, policy: Policy) -> list[Draft]:
    """Return the notices for an event, in most cases none. Raises msgspec.ValidationError."""
    if not event.type.startswith("canhazgpu.reservation."):
        return []
    held = msgspec.convert(event.data, Reservation)
    if held.kind in SCHEDULERS and event.type in OF_JOBS and held.reason not in BY_OTHERS:
        return []
    kind, names = _kind(event.type, held, policy)
    if not kind or (event.type in PASSING and now_ms - ms_of(event.time) > STALE_MS):
        return []
    channels = policy.concrete(names)
    if not channels:
        return []
    draft = Draft(
        kind=kind,
        group=f"reservation {held.id}",
        user=held.user,
        uid=held.uid,
        person=held.user,
        channels=channels,
        reservation=held,
        deadline=held.expires if kind == "expiring" else held.deadline,
        contact=policy.notices.contact,
    )
    return apply_quiet_hours(draft, now_ms, policy)


def _kind(event_type: str, held: Reservation, policy: Policy) -> tuple[str, list[str]]:
    notices = policy.notices
    match event_type.removeprefix("canhazgpu.reservation."):
        case "created" if held.queued and ms_of(held.started) - ms_of(held.queued) >= WAITED * 1000:
            return "granted", notices.granted
        case "expiring":
            return "expiring", notices.expiring
        case "idle":
            return "idle", notices.idle
        case "released" if held.reason in BY_OTHERS and held.by != held.user:
            return "released", notices.released
        case "released" if held.reason == "undelivered" or (held.reason == "released" and held.kind == RUN):
            # A user who had left the queue may have been told that the GPUs are theirs.
            return ("released" if held.reason == "undelivered" else "unreserved"), ["wall"]
    return "", []
