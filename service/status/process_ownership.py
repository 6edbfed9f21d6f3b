"""Classifies the processes on a reserved GPU for `status`.

The scripts use the same rules (`ownership` in service/lua/process_ownership.lua); a test compares the two.
"""

from collections.abc import Collection
from typing import Literal

from canhazgpu.events.gpu import Hint, ProcessUse
from canhazgpu.events.reservations import Record
from canhazgpu.service.gpus.observation import identity_key
from canhazgpu.service.storage.policy import this_boot

BEGAN_MARGIN_MS = 5000  # Tolerance between two clocks, this host's and Redis'.
BEGAN_MARGIN_TICKS = 500  # The same in clock ticks, of which Linux counts 100 a second.
Ownership = Literal["own", "presumed", "hinted", "other"]


def ownership(
    process: ProcessUse, record: Record, disowned: Collection[str], *, presume_holder: bool
) -> Ownership:
    """Return whether a process belongs to the holder.

    `own`: it is proven, or bound to the reservation. `presumed`: its user is not proven, and nothing
    indicates another user: there is no hint and no claim, and it did not start before the reservation.
    `hinted`: there is a hint at another user, or it claims to belong to another reservation. The uid of
    a user without a name is not the holder's. `disowned` are the keys of users that the holder disowned.
    """
    identities = {record.uid, record.login_uid} - {None}
    if {process.uid, process.login_uid} & identities or process.run == record.id:
        return "own"
    if process.person is not None or process.unnamed or identity_key(process) in disowned:
        return "other"
    if process.hint and not _is_holder(process.hint, record):
        return "hinted"
    if process.reservation is not None:
        return "own" if process.reservation == record.id else "hinted"
    if process.hint is None and _began_before(process, record):
        return "other"
    return "presumed" if presume_holder else "other"


def _began_before(process: ProcessUse, record: Record) -> bool:
    if process.began_ms is None:
        return False
    if record.boot is not None and record.up is not None and process.start is not None:
        return record.boot == this_boot() and process.start < record.up - BEGAN_MARGIN_TICKS
    return process.began_ms < record.started_ms - BEGAN_MARGIN_MS


def _is_holder(hint: Hint, record: Record) -> bool:
    return hint.user == record.user or (hint.uid is not None and hint.uid in {record.uid, record.login_uid})
