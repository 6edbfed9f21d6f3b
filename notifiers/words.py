"""The words of a notice, whatever it is about: one account, which lines and pages are made from."""

from canhazgpu.events.notices import Notice
from canhazgpu.events.text import printable
from canhazgpu.notifiers.account import Account
from canhazgpu.notifiers.words_of_failures import describe_digest, describe_incident
from canhazgpu.notifiers.words_of_reservations import describe_reservation
from canhazgpu.notifiers.words_of_violations import describe_violations


def describe(notice: Notice) -> Account:
    """Return what a notice says to its reader. Its audience decides the wording."""
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
