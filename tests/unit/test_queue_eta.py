"""When waiting requests are served, by simulating the host; and the reason why a request waits."""

from datetime import UTC, datetime
from typing import Any

import pytest

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.status.queue_eta import LOOKS, queue_eta
from canhazgpu.service.status.queue_status import queue
from canhazgpu.service.storage.snapshot import GpuState, Snapshot

NOW = 1_764_000_000_000  # 2025-11-24, 16:00 UTC.
HOUR = 3_600_000


def held(index: int, hours: float | None, uid: int = 1, **facts: Any) -> GpuState:
    """Return a GPU that is reserved for some hours, or without an end."""
    expires = None if hours is None else NOW + round(hours * HOUR)
    record = Record(
        id=f"r{index}",
        kind="manual",
        user=f"u{uid}",
        uid=uid,
        gpus=(index,),
        started_ms=NOW,
        expires_ms=expires,
        **facts,
    )
    return GpuState(usage=usage(index), reservation=record)


def usage(index: int, **facts: Any) -> GpuUsage:
    """Return the usage of a GPU."""
    return GpuUsage(index=index, uuid=f"GPU-{index}", name="H100", **facts)


def wants(place: int, count: int = 1, uid: int = 2, hours: float = 1, **facts: Any) -> Waiting:
    """Return a request."""
    return Waiting(
        id=f"w{place}",
        kind="manual",
        user=f"u{uid}",
        uid=uid,
        place=place,
        queued_ms=NOW,
        attached=True,
        duration_ms=round(hours * HOUR),
        count=None if "gpus" in facts else count,
        **facts,
    )


def host(gpus: list[GpuState], *waiting: Waiting) -> Snapshot:
    """Return a host at NOW."""
    records = tuple(gpu.reservation for gpu in gpus if gpu.reservation)
    return Snapshot(
        now_ms=NOW,
        scanned_ms=NOW,
        stalled_ms=None,
        stalled_reason="",
        gpus=tuple(gpus),
        reservations=records,
        waiting=waiting,
    )


def hours(snapshot: Snapshot) -> dict[str, float]:
    """Return when each request is served, in hours from now."""
    return {name: (moment - NOW) / HOUR for name, moment in queue_eta(snapshot).items()}


@pytest.mark.parametrize(
    ("gpus", "waiting", "expected"),
    [
        ([held(0, 1), held(1, 2)], [wants(1)], {"w1": 1}),
        ([held(0, 1), held(1, 2)], [wants(1, 2), wants(2)], {"w1": 2, "w2": 3}),
        ([held(0, 1), held(1, None)], [wants(1, 2), wants(2)], {}),
        ([held(0, 1), held(1, None)], [wants(1, gpus=(1,)), wants(2)], {"w2": 1}),
        # The first gets GPU 0 for three hours: the second is not told of it.
        ([held(0, 1), held(1, 9)], [wants(1, hours=3), wants(2)], {"w1": 1, "w2": 4}),
        # At their limit until their own reservation ends; who is behind is served meanwhile.
        ([held(0, 5, uid=2), held(1, 1)], [wants(1, limit=1), wants(2, uid=3)], {"w2": 1, "w1": 5}),
        # One of two of the same user takes the other to the limit.
        ([held(0, 1), held(1, 1)], [wants(1, limit=1), wants(2, limit=1)], {"w1": 1, "w2": 2}),
        # Beyond the limit with a reservation that has no end: nothing says when.
        ([held(0, None, uid=2), held(1, 1)], [wants(1, limit=1)], {}),
    ],
)
def test_when(gpus: list[GpuState], waiting: list[Waiting], expected: dict[str, float]) -> None:
    """Requests are served in the order of the scripts, with limits, and no GPU is given twice."""
    assert hours(host(gpus, *waiting)) == expected


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (GpuState(usage=usage(1), drained="ECC errors"), "1 drained (GPU 1 (ECC errors))"),
        (GpuState(usage=usage(1, state="error", reason="GPU is lost")), "1 error (GPU 1 (GPU is lost))"),
    ],
)
def test_who_waits_for_what_is_kept_out_is_told_so(broken: GpuState, words: str) -> None:
    """A request for a GPU that is kept out has no time and comes first; those behind it get the rest."""
    free = GpuState(usage=usage(0))
    (row,) = queue(host([free, broken], wants(1, 2)))
    assert row["reason"] == f"needs 2 of 2 and cannot have them until that changes: {words}; 1 free"
    assert row["expected"] is None
    (row,) = queue(host([held(0, 1), broken], wants(1)))
    assert row["reason"] == f"needs 1 of 2: {words}; 1 reserved (GPU 0 by u1 until 17:00 UTC)"
    assert row["expected"] == "2025-11-24T17:00:00.000Z"


def test_a_holders_note_and_day_are_shown() -> None:
    """The reason contains the holder's note, and the date if it is not today."""
    (row,) = queue(host([held(0, 20, note="paper\x1b[31m")], wants(1)))
    assert row["reason"].endswith(r"(GPU 0 by u1 (paper\x1b[31m) until 2025-11-25 12:00 UTC)")
    assert datetime.fromtimestamp(NOW / 1000, UTC).isoformat() == "2025-11-24T16:00:00+00:00"


def test_gpus_of_one_holder_are_listed_together() -> None:
    """GPUs in the same situation are a range, whatever lies between them; others have their own part."""
    gpus = [held(index, 1) for index in range(8)]
    gpus[5] = held(5, 2, uid=2)
    (row,) = queue(host(gpus, wants(1, uid=9)))
    assert row["reason"] == (
        "needs 1 of 8: 8 reserved (GPUs 0-4,6,7 by u1 until 17:00 UTC, GPU 5 by u2 until 18:00 UTC)"
    )


def test_a_long_queue_is_foreseen_as_far_as_it_takes() -> None:
    """The work for a long queue is bounded; the requests at its head get a time."""
    found = queue_eta(host([held(0, 1)], *(wants(place) for place in range(500))))
    assert found["w0"] == NOW + HOUR
    assert len(found) <= LOOKS / 400


def test_a_request_for_one_vendor_waits_for_its_gpus() -> None:
    """The GPUs of the other vendor serve neither a request nor its forecast, and it keeps none of them."""
    amd = GpuState(usage=usage(1, vendor="amd"), reservation=held(1, 4).reservation)
    both = host([GpuState(usage=usage(0)), amd], wants(1, vendor="amd"), wants(2, vendor="nvidia"), wants(3))
    assert hours(both) == {"w1": 4, "w2": 0, "w3": 1}
    too_many = host([GpuState(usage=usage(0)), amd], wants(1, 2, vendor="amd"), wants(2))
    assert hours(too_many) == {"w2": 0}
    (row, *_) = queue(both)
    assert (row["vendor"], row["reason"][:24]) == ("amd", "needs 1 of 1 AMD GPUs: 1")
