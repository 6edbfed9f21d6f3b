"""A consistent snapshot of a host's state in Redis: GPUs, open violations, and the last scan."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog

from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.events.reservations import Record, Waiting, Window, windows_of
from canhazgpu.events.silences import Silence, readable_silences
from canhazgpu.events.spelling.gpu_numbers import card_of, place_of
from canhazgpu.events.unreadable import is_logged
from canhazgpu.events.violations import Violation
from canhazgpu.service.storage import records as storage_records

# The scripts keep more of a GPU, which only they read.
GPU_FIELDS = ("usage", "holder", "last_released", "drained", "unmanaged", "disowned")


class GpuState(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU: its last usage, its holder, the time of its last release (ms), and its open violations.

    `drained` is the reason why it is drained; an unmanaged one is never allocated. `unreadable` is the id of
    a reservation that holds it and cannot be read. `disowned` are the keys of users whose use the holder
    disowned.
    """

    usage: GpuUsage
    reservation: Record | None = None
    last_released_ms: int | None = None
    drained: str = ""
    unmanaged: bool = False
    unreadable: str = ""
    disowned: frozenset[str] = frozenset()
    violations: tuple[Violation, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The host at `now_ms` on Redis' clock. `stalled_ms` is when scans stopped reaching the driver.

    A snapshot that is only the last known state has a `stale_reason` and the time since its last
    confirmation. One that was copied `age_ms` ago is judged by how old the last scan was at that time.
    """

    now_ms: int
    scanned_ms: int | None
    stalled_ms: int | None
    stalled_reason: str
    stalled_remedy: str = ""
    gpus: tuple[GpuState, ...]
    reservations: tuple[Record, ...] = ()  # The oldest first.
    waiting: tuple[Waiting, ...] = ()  # In the order of the queue.
    windows: tuple[Window, ...] = ()  # What is promised to bookings, earliest first.
    silences: tuple[Silence, ...] = ()  # Those that last, the first to end first.
    stale_s: int | None = None
    stale_reason: str = ""
    age_ms: int = 0


def instances_by_card(snapshot: Snapshot) -> dict[int, list[int]]:
    """Return the indices of the MIG instances of each GPU that has any."""
    found: dict[int, list[int]] = {}
    for gpu in snapshot.gpus:
        card = card_of(gpu.usage.index)
        if card is not None:
            found.setdefault(card, []).append(gpu.usage.index)
    return found


async def snapshot(store: Store) -> Snapshot:
    """Read a snapshot in two round trips: first the list of GPUs, then everything else. Raises StoreDown."""
    try:
        known: Any = await store.redis.zrange(store.keys.gpus, 0, -1)
        indices = sorted(map(int, known), key=place_of)
        async with store.redis.pipeline(transaction=True) as pipe:
            pipe.time()
            queue_reads(pipe, store.keys, indices)
            clock, *replies = await pipe.execute()
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    return of_replies(int(clock[0]) * 1000 + int(clock[1]) // 1000, replies)


def queue_reads(pipe: Any, keys: Keys, indices: Sequence[int]) -> None:
    """Put the commands into a pipeline whose replies `of_replies` takes: five, and one per GPU."""
    pipe.hgetall(keys.scan)
    pipe.hgetall(keys.open)
    pipe.hgetall(keys.reservations)
    pipe.hgetall(keys.queue)
    pipe.hgetall(keys.silences)
    for index in indices:
        pipe.hmget(keys.gpu(index), GPU_FIELDS)


def of_replies(now_ms: int, replies: Sequence[Any]) -> Snapshot:
    """Return the snapshot that the replies contain."""
    scan, opened, held, queue, silenced, *values = replies
    gpus = [dict(zip(GPU_FIELDS, found, strict=True)) for found in values]
    violations: dict[int, list[Violation]] = defaultdict(list)
    for violation in open_violations(opened):
        violations[violation.gpu].append(violation)
    records = {one.id: one for one in storage_records.records(held)}
    silences = readable_silences(silenced.values())
    return Snapshot(
        now_ms=now_ms,
        scanned_ms=_whole(scan.get(b"at_ms")),
        stalled_ms=_whole(scan.get(b"stalled_ms")),
        stalled_reason=scan.get(b"stalled_reason", b"").decode("utf-8", "backslashreplace"),
        stalled_remedy=scan.get(b"stalled_remedy", b"").decode("utf-8", "backslashreplace"),
        gpus=tuple(one for fields in gpus if (one := _gpu(fields, violations, records))),
        reservations=tuple(records.values()),
        waiting=tuple(storage_records.requests(queue)),
        windows=windows_of(scan.get(b"windows")),
        silences=tuple(
            sorted((one for one in silences if one.until_ms > now_ms), key=lambda one: (one.until_ms, one.id))
        ),
    )


def _gpu(
    fields: dict[str, bytes | None], violations: Mapping[int, list[Violation]], records: dict[str, Record]
) -> GpuState | None:
    """Return a GPU; None if its usage cannot be read, which the next scan writes again."""
    text = fields["usage"]
    if text is None:
        return None
    try:
        usage = msgspec.json.decode(text, type=GpuUsage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if is_logged():
            structlog.get_logger().warning("usage_unreadable", reason=str(error), text=repr(text[:500]))
        return None
    holder = (fields["holder"] or b"").decode()
    return GpuState(
        usage=usage,
        reservation=records.get(holder),
        unreadable="" if holder in records else holder,
        last_released_ms=_whole(fields["last_released"]),
        drained=(fields["drained"] or b"").decode(),
        unmanaged=fields["unmanaged"] is not None,
        disowned=frozenset(msgspec.json.decode(fields["disowned"] or b"{}", type=dict[str, bool])),
        violations=tuple(violations.get(usage.index, ())),
    )


def _whole(text: bytes | None) -> int | None:
    return int(text) if text else None
