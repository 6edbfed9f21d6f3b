"""Creates notices to users about their own reservations and bookings. Each is decided from one event."""

import msgspec

from canhazgpu.events.envelope import Event
from canhazgpu.events.reservations import RUN, SCHEDULERS, Booking, Reservation
from canhazgpu.events.timestamps import ms_of
from canhazgpu.workers.dispatch.drafts import Draft, apply_quiet_hours
from canhazgpu.workers.dispatch.policy import Policy

WAITED = 5.0  # Seconds; a user who waited for less has seen the answer.
STALE_MS = 3_600_000  # Older events are not announced: the workers were not running.
OF_BOOKINGS = "canhazgpu.booking."
BOOKING_EVENTS = frozenset({"reminder", "begun", "late", "missed"})
MAINTENANCE_EVENTS = {"created": "planned", "reminder": "reminder", "begun": "begun"}  # And their notices.
PASSING = frozenset({"canhazgpu.reservation.created", "canhazgpu.reservation.expiring"})
# The scheduler tells its users that their jobs begin and end.
OF_JOBS = frozenset({"canhazgpu.reservation.created", "canhazgpu.reservation.released"})
BY_OTHERS = frozenset(
    {"admin", "idle", "lost", "no_show", "unmanaged", "vanished"}
)  # Reasons for a release that the user did not request.


def may_concern(event: Event, policy: Policy) -> bool:
    """Return whether there may be a notice for an event. Raises msgspec.ValidationError."""
    if event.type.startswith(OF_BOOKINGS):
        what = event.type.removeprefix(OF_BOOKINGS)
        return what in (MAINTENANCE_EVENTS if event.data.get("concerned") else BOOKING_EVENTS)
    held = msgspec.convert(event.data, Reservation)
    return bool(_kind(event.type, held, policy)[0])


def announce(event: Event, now_ms: int, policy: Policy) -> list[Draft]:
    """Return the notices for an event, in most cases none. Raises msgspec.ValidationError."""
    if event.type.startswith(OF_BOOKINGS):
        return _of_booking(event, now_ms, policy)
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


def _of_booking(event: Event, now_ms: int, policy: Policy) -> list[Draft]:
    """Return the notice for an event of a booking. What is over before it could be sent is not sent."""
    booking = msgspec.convert(event.data, Booking)
    if booking.drain is not None:
        return _of_maintenance(event, booking, now_ms, policy)
    what, channels = event.type.removeprefix(OF_BOOKINGS), policy.concrete(policy.notices.booking)
    ends = booking.begin if what == "reminder" else booking.end
    is_over = now_ms >= ms_of(ends) if what != "missed" else now_ms - ms_of(event.time) > STALE_MS
    if what not in BOOKING_EVENTS or not channels or is_over:
        return []
    draft = Draft(
        kind=f"booking-{what}",
        group=f"booking {booking.id}",
        user=booking.user,
        uid=booking.uid,
        person=booking.user,
        channels=channels,
        booking=booking,
        deadline=None if what == "missed" else ends,
        contact=policy.notices.contact,
    )
    return apply_quiet_hours(draft, now_ms, policy)


def _of_maintenance(event: Event, booking: Booking, now_ms: int, policy: Policy) -> list[Draft]:
    """Return the notices for the users whom maintenance concerns, one for each."""
    what = MAINTENANCE_EVENTS.get(event.type.removeprefix(OF_BOOKINGS))
    channels = policy.concrete(policy.notices.booking)
    ends = booking.begin if what == "reminder" else booking.end
    if what is None or not channels or now_ms >= ms_of(ends):
        return []
    found: list[Draft] = []
    users = dict.fromkeys((one.user, one.uid) for one in booking.concerned or ())
    for user, uid in users:
        theirs = tuple(one for one in booking.concerned or () if one.uid == uid)
        draft = Draft(
            kind=f"maintenance-{what}",
            group=f"booking {booking.id}",
            user=user,
            uid=uid,
            person=user,
            channels=channels,
            booking=msgspec.structs.replace(booking, concerned=theirs),
            deadline=ends,
            contact=policy.notices.contact,
        )
        found += apply_quiet_hours(draft, now_ms, policy)
    return found


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
