"""A notice: what to tell whom about a group of violations; and what became of telling it."""

import msgspec

from canhazgpu.events.reservations import Reservation
from canhazgpu.events.violations import Violation

CREATED = "canhazgpu.notice.created"
CHANNELS = ("wall", "email", "log")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.notice.created`: one message for one user, about violations or a reservation.

    `kind` is opened, changed, reminder or resolved (violations); released, unreserved or timeout
    (a reservation: ended by an administrator, gone from a run that goes on, at its time limit); or
    test. `episode` is the same from the first
    notice of a group to the resolved one. `person` is the user to tell, None for administrators
    only. `channel` and `to` narrow a test to one channel and one recipient.
    """

    notice: str
    kind: str
    episode: str
    host: str
    user: str
    uid: int | None
    person: str | None
    created: str
    violations: tuple[Violation, ...] = ()
    reservation: Reservation | None = None
    channel: str | None = None
    to: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to reach one recipient; an entry of the deliveries stream.

    `outcome` is delivered, retry (tried again later), failed (never), or why there was nothing to
    do: refused, stuck, gone, skipped, unproven, nobody.
    """

    notice: str
    channel: str
    recipient: str
    outcome: str
    attempt: int
    time: str
    detail: str = ""
