"""Who holds, uses and waits for GPUs: the rows of `/v1/users`."""

from typing import Any

import msgspec

from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.status.gpu_status import status
from canhazgpu.service.status.user_status import user_status
from canhazgpu.service.storage.snapshot import GpuState, Snapshot

NOW = 1_764_000_000_000
HOUR = 3_600_000


def process(pid: int, user: str, uid: int | None, **facts: Any) -> ProcessUse:
    """A process of a user, or of nobody that is proven."""
    return ProcessUse(
        pid=pid, name="python3", user=user, uid=uid, person=user if uid else None, memory_mb=1000, **facts
    )


def record(name: str, uid: int, *gpus: int, hours: float | None) -> Record:
    """A reservation that began an hour ago; without hours it is a run."""
    return Record(
        id=f"r{name}{gpus[0]}",
        kind="manual" if hours else "run",
        user=name,
        uid=uid,
        gpus=gpus,
        started_ms=NOW - HOUR,
        expires_ms=NOW + round(hours * HOUR) if hours else None,
    )


def gpu(index: int, *processes: ProcessUse, held: Record | None = None, **facts: Any) -> GpuState:
    """A GPU with these processes."""
    memory = 1000 * len(processes)
    usage = GpuUsage(
        index=index,
        uuid=f"GPU-{index}",
        name="H100",
        in_use=bool(processes),
        memory_mb=memory,
        users=tuple(sorted({one.user for one in processes})),
        processes=processes,
    )
    return GpuState(usage=msgspec.structs.replace(usage, **facts), reservation=held)


def rows(*gpus: GpuState, records: tuple[Record, ...] = (), waiting: tuple[Waiting, ...] = ()) -> Any:
    """Return the rows as plain values, without what is empty."""
    seen = Snapshot(
        now_ms=NOW,
        scanned_ms=NOW,
        stalled_ms=None,
        stalled_reason="",
        gpus=gpus,
        reservations=records,
        waiting=waiting,
    )
    found = user_status(seen, status(seen, 5.0, presume_holder=True))
    return [{name: value for name, value in msgspec.to_builtins(row).items() if value} for row in found]


def test_what_each_user_has() -> None:
    """Reservations, use on all GPUs, use without the right to, and the queue; most GPUs first."""
    alice = record("alice", 1, 0, 1, 2, hours=7)
    more = record("alice", 1, 4, hours=9)
    carol = record("carol", 3, 5, hours=None)
    found = rows(
        gpu(0, process(10, "alice", 1), process(20, "bob", 2), held=alice),
        gpu(1, process(10, "alice", 1), held=alice),
        gpu(2, process(30, "root", None, began_ms=NOW), held=alice),
        gpu(3, process(20, "bob", 2), process(21, "bob", 2)),
        gpu(4, held=more),
        gpu(5, held=carol),
        records=(alice, more, carol),
        waiting=(Waiting(id="w", kind="manual", user="dave", uid=4, place=1, queued_ms=NOW, count=3),),
    )
    assert found == [
        {
            "user": "alice",
            "gpus": [0, 1, 2, 4],
            "since": "2025-11-24T15:00:00.000Z",
            "until": "2025-11-25T01:00:00.000Z",
            "memory_mb": 3000,
            "processes": 2,
        },
        {"user": "carol", "gpus": [5], "since": "2025-11-24T15:00:00.000Z"},
        {"user": "bob", "memory_mb": 3000, "processes": 2, "unreserved": [0, 3]},
        {"user": "dave", "waiting": 1, "waiting_gpus": 3},
    ]


def test_memory_that_nobody_is_seen_to_have() -> None:
    """It is there too, without a process; what is not managed is nobody's violation."""
    assert rows(gpu(0, in_use=True, memory_mb=300, users=("unknown",))) == [
        {"user": "unknown", "memory_mb": 300, "unreserved": [0]}
    ]
    unmanaged = msgspec.structs.replace(gpu(0, process(20, "bob", 2)), unmanaged=True)
    assert rows(unmanaged) == [{"user": "bob", "memory_mb": 1000, "processes": 1}]


def test_nobody() -> None:
    """An idle host has no rows."""
    assert rows(gpu(0), gpu(1)) == []
