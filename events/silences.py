"""A silence: for a time nobody is told of some violations. The facts are recorded all the same."""

import msgspec

from canhazgpu.events.violations import Violation

ADDED = "canhazgpu.silence.added"
ENDED = "canhazgpu.silence.ended"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the silence events, and what Redis keeps of a live one. Moments: RFC 3339 in UTC.

    It covers the violations that fit all of `user`, `gpu` and `process` (the name of a process) that
    are set; at least one is. `ack`: the user's own acknowledgement, of what they do on `gpus`; it covers
    nothing on a GPU that somebody else has reserved. `reason` and `by` say why and who;
    `ended_by` is set on ending by hand, and `ended` on any ending.
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
        """Tell whether it is about this violation: `process` has to be the name of every process."""
        names = {process.name for process in violation.processes}
        if self.ack and (violation.holder or violation.gpu not in self.gpus):
            return False
        return (
            (self.user in (None, violation.user) or (self.ack and self.by_uid == violation.uid))
            and self.gpu in (None, violation.gpu)
            and (self.process is None or names == {self.process})
        )
