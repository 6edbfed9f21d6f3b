"""Silences suppress notices about some violations for a time. The violations are still recorded."""

from collections.abc import Iterable

import msgspec

from canhazgpu.events.unreadable import UNREADABLE, log_unreadable
from canhazgpu.events.violations import Violation

ADDED = "canhazgpu.silence.added"
ENDED = "canhazgpu.silence.ended"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the silence events, and the record of a live silence in Redis. Times: RFC 3339 in UTC.

    It covers the violations that match all of `user`, `gpu` and `process` (a process name) that are set; at
    least one is. `ack`: it is a user's acknowledgement of their own violations on `gpus`; it never covers a
    GPU that somebody else has reserved. `reason` says why and `by` who created it. `ended` is set when it has
    ended, and `ended_by` if a user ended it.
    """

    id: str
    by: str
    by_uid: int
    since: str
    until: str
    until_ms: int
    reason: str
    user: str | None = None
    gpu: int | None = None
    process: str | None = None
    ack: bool = False
    gpus: tuple[int, ...] = ()
    ended: str | None = None
    ended_by: str | None = None

    def covers(self, violation: Violation) -> bool:
        """Return whether it covers this violation; `process` must be the name of all its processes."""
        names = {process.name for process in violation.processes}
        if self.ack and (violation.holder or violation.gpu not in self.gpus):
            return False
        return (
            (self.user in (None, violation.user) or (self.ack and self.by_uid == violation.uid))
            and self.gpu in (None, violation.gpu)
            and (self.process is None or names == {self.process})
        )


def readable_silences(texts: Iterable[bytes]) -> list[Silence]:
    """Return the silences of the hash of live ones; those that cannot be read are logged and left out."""
    found = []
    for text in texts:
        try:
            found.append(msgspec.json.decode(text, type=Silence))
        except UNREADABLE as error:
            log_unreadable("Silence", "", error, text)
    return found
