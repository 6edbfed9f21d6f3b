"""Who holds and uses GPUs now: one row for each user."""

from collections.abc import Sequence
from typing import Any

from canhazgpu.events.reservations import Record
from canhazgpu.service.status.gpu_status import rfc3339
from canhazgpu.service.status.queue_eta import end_of
from canhazgpu.service.storage.snapshot import Snapshot

Row = dict[str, Any]


def user_status(snapshot: Snapshot, gpus: Sequence[Row]) -> list[Row]:
    """Return a row for each user who holds, uses or waits for GPUs, those with the most GPUs first.

    `gpus` are the rows of `gpu_status.status`. `gpus` of a row are those that the user holds, `since` the
    start of the first reservation, and `until` the last time at which one ends, null if that is open.
    `memory_mb` and `processes` are those on all GPUs; presumed processes count as the holder's.
    `unreserved` are the GPUs that the user uses without having reserved them. `waiting` is the number of
    requests in the queue, `waiting_gpus` the number of GPUs that they ask for.
    """
    rows: dict[str, Row] = {}
    for record in snapshot.reservations:
        _row(rows, record.user)["gpus"] += record.gpus
    for name, row in rows.items():
        _add_times(row, [one for one in snapshot.reservations if one.user == name])
    for request in snapshot.waiting:
        row = _row(rows, request.user)
        row["waiting"] += 1
        row["waiting_gpus"] += request.need
    pids: set[tuple[str, int]] = set()
    for gpu in gpus:
        _add_use(rows, gpu, pids)
    for row in rows.values():
        row["gpus"] = sorted(row["gpus"])
    return sorted(
        rows.values(), key=lambda row: (-len(row["gpus"]), -len(row["unreserved"]), -row["waiting"], row["user"])
    )


def _row(rows: dict[str, Row], user: str) -> Row:
    empty = {
        "user": user,
        "gpus": [],
        "since": None,
        "until": None,
        "memory_mb": 0,
        "processes": 0,
        "unreserved": [],
        "waiting": 0,
        "waiting_gpus": 0,
    }
    return rows.setdefault(user, empty)


def _add_times(row: Row, records: Sequence[Record]) -> None:
    ends = [end_of(record) for record in records]
    row["since"] = rfc3339(min(record.started_ms for record in records))
    row["until"] = None if None in ends else rfc3339(max(end for end in ends if end is not None))


def _add_use(rows: dict[str, Row], gpu: Row, pids: set[tuple[str, int]]) -> None:
    """Add the processes on one GPU. Memory that no process is seen to have is the user `unknown`'s."""
    held = gpu["reservation"]
    own = {one["pid"] for one in gpu["presumed"]}
    for process in gpu["processes"]:
        row = _row(rows, held["user"] if held and process["pid"] in own else process["user"])
        row["memory_mb"] += process["memory_mb"] or 0
        row["processes"] += (row["user"], process["pid"]) not in pids
        pids.add((row["user"], process["pid"]))
    users = gpu["users"] if gpu["status"] == "UNRESERVED" else [one["user"] for one in gpu["others"]]
    for user in dict.fromkeys(users):
        row = _row(rows, user)
        row["unreserved"].append(gpu["gpu_id"])
        if not gpu["processes"]:
            row["memory_mb"] += gpu["memory_mb"]
