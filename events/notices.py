"""Notices about violations, reservations and failures, and the attempts to deliver them."""

import msgspec

from canhazgpu.events.reservations import Booking, Reservation
from canhazgpu.events.violations import Violation

CREATED = "canhazgpu.notice.created"
ATTEMPTED = "canhazgpu.notice.attempted"
CHANNELS = ("wall", "email", "log", "webhook", "exec")  # The built-in channels; a site can add more.
OFFENDER, HOLDER, ADMINS, ADDRESS = "offender", "holder", "admins", "address"
REACHED = frozenset({"delivered", "unproven"})  # The outcomes that count as reached.
IMPERSONAL = frozenset(
    {"log", "webhook", "exec", "terminate"}
)  # These can be about a user, but are not addressed to one.


def is_personal(channel: str) -> bool:
    """Return whether a channel, such as `email` or `webhook:chat`, addresses the person of a notice."""
    return channel.partition(":")[0] not in IMPERSONAL


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A failure. `subject` is scanner, gpu/N or channel/NAME; `ended` is set when it is over."""

    subject: str
    reason: str
    since: str
    remedy: str = ""
    ended: str | None = None


class DigestUser(msgspec.Struct, frozen=True, kw_only=True):
    """One user in a digest. `gpu_hours` is the total duration of their violations in its period."""

    user: str
    violations: int
    gpu_hours: float
    open: int = 0
    unreached: int = 0  # Violations that the user could not be notified of.


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of the time between two moments (RFC 3339). Users are ordered by their GPU hours."""

    since: str
    until: str
    users: tuple[DigestUser, ...] = ()
    repeaters: tuple[str, ...] = ()
    idle: tuple[Reservation, ...] = ()  # Reservations that were found idle, or still are.
    failures: dict[str, int] = {}  # By channel: the number of notices that could not be delivered.
    incidents: tuple[Incident, ...] = ()


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.notice.created`: one message to one audience through some channels.

    `kind` for violations: opened, changed, reminder, resolved, terminate. For a reservation: granted,
    expiring, idle, released, unreserved (its run continues without it), timeout. For a booking:
    booking-reminder, booking-begun, booking-late, booking-missed. For users whom maintenance concerns:
    maintenance-planned, maintenance-reminder, maintenance-begun. For administrators:
    stalled, resumed, gpu-failed, gpu-recovered, channel-failing, channel-recovered, digest. Or test.

    `audience`: offender, holder, admins or address (which is then in `to`). `user` and `uid` say whom the
    notice is about; `person` is its recipient, None for administrators and addresses. `episode` is the same
    from the first notice of a group to the resolved one; `serial` counts within it. `channels`: the channels
    to use, where `webhook` means all webhooks; empty means all channels. `channel` and `to` restrict a test,
    or a dead letter, to one channel and one recipient. `unreached`: the user could not be notified.
    `unreached_holder`: the holder of the GPU, if they could not be notified.
    `not_before`: the end of quiet hours.
    """

    notice: str
    kind: str
    episode: str
    host: str
    user: str
    uid: int | None
    person: str | None
    created: str
    audience: str = OFFENDER
    group: str = ""
    serial: int = 0
    channels: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    reservation: Reservation | None = None
    booking: Booking | None = None
    incident: Incident | None = None
    digest: Digest | None = None
    deadline: str | None = None  # The time of the announced event: an expiry or a release.
    contact: str = ""
    unreached: bool = False
    unreached_holder: str | None = None
    not_before: str | None = None
    may_ack: bool = True  # Whether the recipient can acknowledge it.
    dry_run: bool = False  # For the kind terminate: no process is ended.
    channel: str | None = None
    to: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to reach one recipient: the `data` of `canhazgpu.notice.attempted`.

    `outcome` is delivered, unproven (sent, arrival unknown), retry (tried again later), failed (permanently),
    or the reason why nothing was sent: refused, stuck, gone, skipped, nobody, dry-run. `final`: this channel
    does not try this notice again. A channel without recipients reports this with an empty `recipient`.
    """

    notice: str
    kind: str
    channel: str
    recipient: str
    outcome: str
    attempt: int
    time: str
    detail: str = ""
    episode: str = ""
    group: str = ""
    serial: int = 0
    audience: str = OFFENDER
    final: bool = True
