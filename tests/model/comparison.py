"""Compares the state in Redis with the reference and with the replay of the events."""

from dataclasses import dataclass
from typing import Any

import msgspec
from model.booking_reference import BookingReference
from model.replay import Replay

from canhazgpu.events.gpu import AMD, NVIDIA, GpuUsage, ProcessUse, Vendor
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Booked, Record, Waiting, windows_of
from canhazgpu.events.spelling.gpu_numbers import is_instance
from canhazgpu.service.status.gpu_status import rfc3339

PROFILES = ("1g.10gb", "3g.40gb")  # Of the instances of a card, by their numbers.


@dataclass(frozen=True)
class Snapshot:
    """What Redis had at one moment."""

    events: list[Any]  # Those after the last that was seen.
    records: list[bytes]
    queue: list[bytes]
    bookings: list[bytes]
    windows: bytes | None
    opened: list[bytes]
    pending: list[bytes]
    gpus: dict[int, list[bytes | None]]  # holder, drained, unmanaged
    released: dict[int, int]  # When each GPU was released.
    had: dict[tuple[int, int], int]  # When each user had each GPU last.


async def snapshot(store: Store, last_id: str, indices: list[int]) -> Snapshot:
    """Read everything in one transaction, with the events after an id, or all after `-`."""
    keys = store.keys
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.xrange(keys.events, "-" if last_id == "-" else f"({last_id}")
        pipe.hvals(keys.reservations)
        pipe.hvals(keys.queue)
        pipe.hvals(keys.bookings)
        pipe.hget(keys.scan, "windows")
        pipe.hkeys(keys.open)
        pipe.hkeys(keys.pending)
        pipe.hgetall(keys.affinity)
        for index in indices:
            pipe.hmget(keys.gpu(index), "last_released", "holder", "drained", "unmanaged")
        events, records, queue, booked, windows, opened, pending, affinity, *gpus = await pipe.execute()
    had = {}
    for field, moment in affinity.items():
        uid, _, index = field.decode().partition("/")
        had[int(uid), int(index)] = int(moment)
    released = {index: int(gpu[0] or 0) for index, gpu in zip(indices, gpus, strict=True)}
    marks = {index: gpu[1:] for index, gpu in zip(indices, gpus, strict=True)}
    return Snapshot(events, records, queue, booked, windows, opened, pending, marks, released, had)


def compare(seen: Snapshot, model: BookingReference, replay: Replay) -> None:
    """Assert that all three agree."""
    held = {one.id: one for one in (msgspec.json.decode(text, type=Record) for text in seen.records)}
    shape = {name: (one.uid, one.kind, one.gpus, one.ended_ms is not None) for name, one in held.items()}
    assert shape == {
        name: (one.uid, one.kind, tuple(one.gpus), one.ended) for name, one in model.held.items()
    }
    assert shape == replay.held
    assert {name: rfc3339(one.expires_ms) for name, one in held.items()} == replay.expires
    begins = {name: model.began_ms if one.booking else one.started_ms for name, one in held.items()}
    assert {name: one.expires_ms and one.expires_ms - begins[name] for name, one in held.items()} == {
        name: one.lasts for name, one in model.held.items()
    }
    booked = [msgspec.json.decode(text, type=Booked) for text in seen.bookings]
    assert {one.id: one.late_ms is not None for one in booked} == {one.id: one.late for one in model.windows}
    assert {one.id: one.began_ms is not None for one in booked} == {
        one.id: one.begun for one in model.windows
    }
    assert set(replay.bookings) == {one.id for one in booked}
    assert {one.id for one in windows_of(seen.windows)} == {one.id for one in booked}
    taken = [index for one in held.values() for index in one.gpus]
    assert len(taken) == len(set(taken))
    waiting = sorted(
        (msgspec.json.decode(text, type=Waiting) for text in seen.queue), key=lambda one: one.place
    )
    assert [(one.id, one.attached) for one in waiting] == [(one.id, one.attached) for one in model.queue]
    assert [one.id for one in waiting] == replay.queue
    for index, (holder, drained, unmanaged) in seen.gpus.items():
        gpu = model.gpus[index]
        assert (holder.decode() if holder else None) == gpu.holder
        assert ((drained or b"").decode(), unmanaged is None) == (gpu.drained, gpu.managed)
        assert (replay.drained.get(index, ""), index not in replay.unmanaged) == (gpu.drained, gpu.managed)
    accused = {field.decode() for field in (*seen.opened, *seen.pending)}
    for name, one in held.items():
        for index in one.gpus:
            gpu = model.gpus[index]
            strangers = gpu.users - {one.uid} if gpu.managed and gpu.state == "ok" and gpu.settled else ()
            assert all(f"{index}/uid:{uid}" in accused for uid in strangers), (name, index)


def vendor_at(index: int) -> Vendor:
    """Return the vendor of a GPU: half of them are of each."""
    return AMD if index in {2, 3} else NVIDIA


def usage(index: int, state: str, users: frozenset[int]) -> GpuUsage:
    """Return a GPU as a scan reports it."""
    facts: dict[str, Any] = {"index": index, "uuid": f"GPU-{index}", "name": "H100", "state": state}
    facts["vendor"] = vendor_at(index)
    if is_instance(index):
        facts["profile"] = PROFILES[index % 2]
    if state != "ok" or not users:
        return GpuUsage(**facts)
    processes = tuple(
        ProcessUse(
            pid=uid,
            name="p",
            user=f"u{uid}",
            uid=uid,
            person=f"u{uid}",
            evidence="uid",
            memory_mb=900,
            start=1,
        )
        for uid in sorted(users)
    )
    names = tuple(one.user for one in processes)
    return GpuUsage(**facts, in_use=True, memory_mb=900 * len(users), users=names, processes=processes)
