"""A violation: one user uses one GPU without the right to. Its events go to two streams."""

import msgspec

from canhazgpu.events.gpu import Hint, ProcessUse

OPENED = "canhazgpu.violation.opened"
UPDATED = "canhazgpu.violation.updated"
CLOSED = "canhazgpu.violation.closed"


class Signalled(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `canhazgpu.process.signalled`: a signal to a process of a violation.

    `signal` is INT, TERM or KILL; `outcome` is sent, dry-run, or the reason why it was not sent.
    """

    notice: str
    violation: str
    gpu: int
    user: str
    uid: int | None
    pid: int
    start: int | None
    name: str
    signal: str
    outcome: str


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the three violation events. Times are RFC 3339 in UTC, memory is in MiB.

    `key` identifies the user within the host: `uid:1001`, `user:bob` or `unknown`; `containers:1001` for all
    containers without a proven user that are hinted at uid 1001; `containers` for those that had no hint when
    it was opened. `person` is the user to notify, None if no user is proven; then `hint` may name the likely
    user. `holder_note` is what the `holder` noted on the reservation. `reason`, `closed` and `duration_s` are
    set when it is closed.
    """

    violation: str
    kind: str  # unreserved, trespass
    gpu: int
    gpu_uuid: str
    gpu_name: str
    key: str
    user: str
    uid: int | None
    person: str | None
    evidence: str
    since: str
    memory_mb: int
    peak_memory_mb: int
    processes: tuple[ProcessUse, ...] = ()
    holder: str | None = None
    holder_note: str | None = None
    hint: Hint | None = None
    reason: str | None = None  # stopped, reserved, exempted, vanished
    closed: str | None = None
    duration_s: int | None = None
