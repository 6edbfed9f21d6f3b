"""A notice: what to tell whom about violations, a reservation or a failure; and what became of telling it."""

import msgspec

from canhazgpu.events.reservations import Reservation
from canhazgpu.events.violations import Violation

CREATED = "canhazgpu.notice.created"
ATTEMPTED = "canhazgpu.notice.attempted"
CHANNELS = ("wall", "email", "log", "webhook", "exec")  # Those that come along; a site may add more.
OFFENDER, HOLDER, ADMINS, ADDRESS = "offender", "holder", "admins", "address"
REACHED = frozenset({"delivered", "unproven"})  # The outcomes of who was told.
IMPERSONAL = frozenset({"log", "webhook", "exec", "terminate"})  # They may speak of a person, not to one.


def is_personal(channel: str) -> bool:
    """Tell whether a channel, such as `email` or `webhook:chat`, tells the person a notice is for."""
    return channel.partition(":")[0] not in IMPERSONAL


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Something failed by itself. `subject` is scanner, gpu/N or channel/NAME; `ended` when it is over."""

    subject: str
    reason: str
    since: str
    remedy: str = ""
    ended: str | None = None


class DigestUser(msgspec.Struct, frozen=True, kw_only=True):
    """One user in a digest. `gpu_hours` is the length of their violations within it, one GPU each."""

    user: str
    violations: int
    gpu_hours: float
    open: int = 0
    unreached: int = 0  # Violations of theirs that nobody could be told of.


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between two moments (RFC 3339). Users are ordered by their GPU hours."""

    since: str
    until: str
    users: tuple[DigestUser, ...] = ()
    repeaters: tuple[str, ...] = ()
    idle: tuple[Reservation, ...] = ()  # Reservations found idle, and those that still are.
    failures: dict[str, int] = {}  # By channel: notices it gave up on.
    incidents: tuple[Incident, ...] = ()


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.notice.created`: one message to one audience, by some channels.

    `kind` of violations: opened, changed, reminder, resolved, terminate. Of a reservation: granted,
    expiring, idle, released, unreserved (gone from a run that goes on), timeout. To administrators:
    stalled, resumed, gpu-failed, gpu-recovered, channel-failing, channel-recovered, digest. Or test.

    `audience`: offender, holder, admins or address (then `to` is it). `user` and `uid` are whom it is
    about; `person` is who reads it, None for administrators and addresses. `episode` is the same from
    the first notice of a group to the resolved one, `serial` counts within it. `channels`: by which it
    goes, `webhook` standing for all webhooks; empty: by all. `channel` and `to` narrow a test, or a dead
    letter, to one channel and one recipient. `unreached`: those it is about could not be told;
    `unreached_holder`: whose GPU it is, and could not be told.
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
    incident: Incident | None = None
    digest: Digest | None = None
    deadline: str | None = None  # When what it announces happens: an expiry, a release.
    contact: str = ""
    unreached: bool = False
    unreached_holder: str | None = None
    not_before: str | None = None
    may_ack: bool = True  # Whether its reader may silence it for a time.
    dry_run: bool = False  # Of kind terminate: nothing is ended.
    channel: str | None = None
    to: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to reach one recipient: the `data` of `canhazgpu.notice.attempted`.

    `outcome` is delivered, unproven (handed on), retry (tried again later), failed (never), or why there
    was nothing to do: refused, stuck, gone, skipped, nobody, dry-run. `final`: this channel tries this
    notice no more, for anybody. A channel without a recipient says so once, with an empty `recipient`.
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
