"""What a process is on a GPU that somebody holds, for those who read the status.

The scripts decide by the same rules (`standing` in service/lua/standing.lua); a test compares the two.
"""

from collections.abc import Collection
from typing import Literal

from canhazgpu.events.gpu import Hint, ProcessUse
from canhazgpu.events.reservations import Record
from canhazgpu.service.observations import identity_key

BEGAN_MARGIN_MS = 5000  # Moments of two clocks are compared, this host's and Redis'.
Standing = Literal["own", "presumed", "hinted", "other"]


def standing(
    process: ProcessUse, record: Record, disowned: Collection[str], *, presume_holder: bool
) -> Standing:
    """Return whether a process is the holder's.

    `own`: proven, or bound to the reservation. `presumed`: its user cannot be proven, and nothing points to
    anybody but the holder: no hint, no claim, and it did not begin before the reservation. `hinted`: a hint
    does, or it claims to be of another reservation. `disowned`
    are keys of users who the holder said are others.
    """
    identities = {record.uid, record.login_uid} - {None}
    if {process.uid, process.login_uid} & identities or process.run == record.id:
        return "own"
    if process.person is not None or identity_key(process) in disowned:
        return "other"
    if process.hint and not _is_holder(process.hint, record):
        return "hinted"
    if process.reservation is not None:
        return "own" if process.reservation == record.id else "hinted"
    if process.hint is None and _began_before(process, record):
        return "other"
    return "presumed" if presume_holder else "other"


def _began_before(process: ProcessUse, record: Record) -> bool:
    return process.began_ms is not None and process.began_ms < record.started_ms - BEGAN_MARGIN_MS


def _is_holder(hint: Hint, record: Record) -> bool:
    return hint.user == record.user or (hint.uid is not None and hint.uid in {record.uid, record.login_uid})
