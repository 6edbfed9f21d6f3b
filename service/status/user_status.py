"""Who holds and uses GPUs now: one row for each user."""

from collections.abc import Sequence
from typing import Any

import msgspec

from canhazgpu.events.reservations import Record
from canhazgpu.events.spelling.gpu_numbers import place_of
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.status.promised_windows import end_of
from canhazgpu.service.storage.snapshot import Snapshot


class UserResponse(msgspec.Struct, kw_only=True):
    """What a user holds, uses and waits for now. Memory is in MiB.

    `gpus`: those that the user holds, from `since` until `until` (null if that is open). `memory_mb` and
    `processes` are those on all GPUs; presumed processes count as the holder's. `unreserved`: the GPUs that
    the user uses without having reserved them. `waiting`: requests in the queue, for `waiting_gpus` GPUs.
    """

    user: str
    gpus: list[int] = []
    since: str | None = None
    until: str | None = None
    memory_mb: int = 0
    processes: int = 0
    unreserved: list[int] = []
    waiting: int = 0
    waiting_gpus: int = 0


class _Users(dict[str, UserResponse]):
    """The rows by user; one that is asked for is there."""

    def __missing__(self, user: str) -> UserResponse:
        self[user] = row = UserResponse(user=user)
        return row


def user_status(snapshot: Snapshot, gpus: Sequence[dict[str, Any]]) -> list[UserResponse]:
    """Return a row for each user, those with the most GPUs first.

    `gpus` are the rows of `gpu_status.status` for the same snapshot.
    """
    rows = _Users()
    for user in dict.fromkeys(record.user for record in snapshot.reservations):
        _add_reservations(rows[user], [one for one in snapshot.reservations if one.user == user])
    for request in snapshot.waiting:
        rows[request.user].waiting += 1
        rows[request.user].waiting_gpus += request.need
    pids: dict[str, set[int]] = {}
    for gpu in gpus:
        _add_use(rows, gpu, pids)
    for user, found in pids.items():
        rows[user].processes = len(found)
    return sorted(
        rows.values(), key=lambda row: (-len(row.gpus), -len(row.unreserved), -row.waiting_gpus, row.user)
    )


def _add_reservations(row: UserResponse, records: Sequence[Record]) -> None:
    ends = [end_of(record) for record in records]
    row.gpus = sorted((index for record in records for index in record.gpus), key=place_of)
    row.since = rfc3339(min(record.started_ms for record in records))
    row.until = None if None in ends else rfc3339(max(end for end in ends if end is not None))


def _add_use(rows: _Users, gpu: dict[str, Any], pids: dict[str, set[int]]) -> None:
    """Add what is used on one GPU. Memory of no process that can be seen counts for `unknown`."""
    held = gpu["reservation"]
    presumed = {one["pid"] for one in gpu["presumed"]}
    for process in gpu["processes"]:
        user = held["user"] if held and process["pid"] in presumed else process["user"]
        rows[user].memory_mb += process["memory_mb"] or 0
        pids.setdefault(user, set()).add(process["pid"])
    unreserved = gpu["users"] if gpu["status"] == "UNRESERVED" else [one["user"] for one in gpu["others"]]
    for user in dict.fromkeys(unreserved):
        rows[user].unreserved.append(gpu["gpu_id"])
        if not gpu["processes"]:
            rows[user].memory_mb += gpu["memory_mb"]
