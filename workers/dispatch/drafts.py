"""Drafts: notices without an id, and their recipients."""

from collections.abc import Iterable

import msgspec

from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER, Digest, Incident
from canhazgpu.events.reservations import Booking, Reservation
from canhazgpu.events.timestamps import ms_of, rfc3339
from canhazgpu.events.violations import Violation
from canhazgpu.workers.dispatch.policy import Policy


class Audience(msgspec.Struct, frozen=True):
    """The recipient of a notice; `recipient` is the name of the holder, or the address."""

    name: str
    recipient: str = ""

    @property
    def key(self) -> str:
        """The recipient as a string."""
        return f"{self.name} {self.recipient}" if self.recipient else self.name

    @classmethod
    def of(cls, key: str) -> "Audience":
        """Return the audience of a key."""
        name, _, recipient = key.partition(" ")
        return cls(name, recipient)


THE_OFFENDER, THE_ADMINS = Audience(OFFENDER), Audience(ADMINS)


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A notice before it is committed. The fields are those of Notice."""

    kind: str
    episode: str | None = None  # None: it gets its own episode.
    user: str
    uid: int | None
    person: str | None
    audience: str = OFFENDER
    group: str = ""
    serial: int = 0
    channels: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    reservation: Reservation | None = None
    booking: Booking | None = None
    incident: Incident | None = None
    digest: Digest | None = None
    deadline: str | None = None
    contact: str = ""
    unreached: bool = False
    unreached_holder: str | None = None
    not_before: str | None = None
    may_ack: bool = True
    dry_run: bool = False
    to: str | None = None

    @property
    def text(self) -> bytes:
        """The draft as JSON; required fields of a notice are included even if they are null."""
        always = {"user": self.user, "uid": self.uid, "person": self.person}
        return msgspec.json.encode({**msgspec.to_builtins(self), **always})


def apply_quiet_hours(draft: Draft, now_ms: int, policy: Policy) -> list[Draft]:
    """Return a notice whose quiet channels wait for the end of quiet hours, or are dropped."""
    quiet = {one: policy.quiet_until(one, now_ms) for one in draft.channels}
    now = tuple(one for one, until in quiet.items() if until is None)
    ends = [until for until in quiet.values() if until is not None]
    found = [msgspec.structs.replace(draft, channels=now)] if now else []
    if ends and not (draft.deadline and ms_of(draft.deadline) <= min(ends)):
        late = tuple(one for one, until in quiet.items() if until is not None)
        found.append(msgspec.structs.replace(draft, channels=late, not_before=rfc3339(min(ends))))
    return found


def audiences(to: str, violations: Iterable[Violation]) -> list[Audience]:
    """Return the recipients for the `to` of a step."""
    if to == HOLDER:
        holders = dict.fromkeys(one.holder for one in violations if one.holder)
        return [Audience(HOLDER, holder) for holder in holders]
    return [Audience(to) if to in (OFFENDER, ADMINS) else Audience(ADDRESS, to)]
