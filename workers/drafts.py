"""A notice that does not have its id yet, and whom it is for."""

from collections.abc import Iterable

import msgspec

from canhazgpu.events.moments import ms_of, rfc3339
from canhazgpu.events.notices import ADDRESS, ADMINS, HOLDER, OFFENDER, Digest, Incident
from canhazgpu.events.reservations import Reservation
from canhazgpu.events.violations import Violation
from canhazgpu.workers.policy import Policy


class Audience(msgspec.Struct, frozen=True):
    """Whom a notice is for: `who` is the holder's name, or the address."""

    name: str
    who: str = ""

    @property
    def key(self) -> str:
        """The same as one text."""
        return f"{self.name} {self.who}" if self.who else self.name

    @classmethod
    def of(cls, key: str) -> "Audience":
        """Return the audience of a key."""
        name, _, who = key.partition(" ")
        return cls(name, who)


THE_OFFENDER, THE_ADMINS = Audience(OFFENDER), Audience(ADMINS)


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes a Notice once it is committed; the fields mean the same there."""

    kind: str
    episode: str | None = None  # None: one of its own.
    user: str
    uid: int | None
    person: str | None
    audience: str = OFFENDER
    group: str = ""
    serial: int = 0
    channels: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    reservation: Reservation | None = None
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
        """The same as JSON; what a notice cannot do without is said even where it is null."""
        always = {"user": self.user, "uid": self.uid, "person": self.person}
        return msgspec.json.encode({**msgspec.to_builtins(self), **always})


def hushed(draft: Draft, now_ms: int, policy: Policy) -> list[Draft]:
    """Return a notice as it may go: by channels that are quiet when that ends, if it is of use then."""
    quiet = {one: policy.quiet_until(one, now_ms) for one in draft.channels}
    now = tuple(one for one, until in quiet.items() if until is None)
    ends = [until for until in quiet.values() if until is not None]
    found = [msgspec.structs.replace(draft, channels=now)] if now else []
    if ends and not (draft.deadline and ms_of(draft.deadline) <= min(ends)):
        late = tuple(one for one, until in quiet.items() if until is not None)
        found.append(msgspec.structs.replace(draft, channels=late, not_before=rfc3339(min(ends))))
    return found


def audiences(to: str, violations: Iterable[Violation]) -> list[Audience]:
    """Return whom a step's `to` stands for, given what it is about."""
    if to == HOLDER:
        holders = dict.fromkeys(one.holder for one in violations if one.holder)
        return [Audience(HOLDER, holder) for holder in holders]
    return [Audience(to) if to in (OFFENDER, ADMINS) else Audience(ADDRESS, to)]
