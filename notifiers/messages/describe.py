"""Turns any notice into content, from which text and HTML are rendered."""

from canhazgpu.events.notices import Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.notifiers.messages.booking_messages import describe_booking
from canhazgpu.notifiers.messages.content import Content
from canhazgpu.notifiers.messages.failure_messages import describe_digest, describe_incident
from canhazgpu.notifiers.messages.maintenance_messages import describe_maintenance
from canhazgpu.notifiers.messages.reservation_messages import describe_reservation
from canhazgpu.notifiers.messages.violation_messages import describe_violations


def describe(notice: Notice) -> Content:
    """Return the content of a notice. The wording depends on its audience."""
    if notice.kind == "test":
        user = printable(notice.user)
        return Content(subject="a test message", headline=f"{user}, this is a test message. It works.")
    if notice.digest:
        return describe_digest(notice.digest)
    if notice.incident:
        return describe_incident(notice.kind, notice.incident)
    if notice.reservation:
        return describe_reservation(notice, notice.reservation)
    if notice.booking:
        of_booking = describe_booking if notice.booking.drain is None else describe_maintenance
        return of_booking(notice, notice.booking)
    return describe_violations(notice)
