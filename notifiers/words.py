"""Turns any notice into content, from which text and HTML are rendered."""

from canhazgpu.events.notices import Notice
from canhazgpu.events.text import printable
from canhazgpu.notifiers.account import Account
from canhazgpu.notifiers.words_of_failures import describe_digest, describe_incident
from canhazgpu.notifiers.words_of_reservations import describe_reservation
from canhazgpu.notifiers.words_of_violations import describe_violations


def describe(notice: Notice) -> Account:
    """Return the content of a notice. The wording depends on its audience."""
    if notice.kind == "test":
        user = printable(notice.user)
        return Account(subject="a test message", headline=f"{user}, this is a test message. It works.")
    if notice.digest:
        return describe_digest(notice.digest)
    if notice.incident:
        return describe_incident(notice.kind, notice.incident)
    if notice.reservation:
        return describe_reservation(notice, notice.reservation)
    return describe_violations(notice)
