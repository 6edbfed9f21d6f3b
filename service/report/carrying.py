"""Keeps, for each day that is over, the part of every reservation that went on after it.

A reservation is kept under the day on which it ended. With this, what was reserved on a day is read from two
fields, however long ago it was and however long its reservations lasted. Days are done backwards from now,
because a day's reservations are those of the day after it that had begun before.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.report.facts import EPOCH, MS, Held, decode_list, read_base, uuids_by_index
from canhazgpu.service.report.timeline import DAY_MS
from canhazgpu.service.storage.records import records

MOST_DAYS = 50  # Written at once.


async def carry(store: Store, now_ms: int, keep_ms: int) -> None:
    """Do the days since this was called last; nothing if they are done. Raises StoreDown."""
    today = now_ms // DAY_MS
    done = (await read_base(store)).carried
    if done and done >= today:
        if done > today:  # The clock was set back.
            await _write(store, {"carried": str(today).encode()})
        return
    oldest = max(done, (now_ms - keep_ms) // DAY_MS)
    first = oldest if done else await _first_day(store, oldest, today)
    later = [*await _live(store, now_ms), *await _held(store, today + 1), *await _held(store, today)]
    fields: dict[str, bytes] = {}
    for day in range(today - 1, oldest - 1, -1):
        later = list(_until(later, (day + 1) * DAY_MS))
        if day < first and not later:
            break
        fields[f"carried/{day}"] = msgspec.json.encode(later)[1:-1]
        later += await _held(store, day)
        if len(fields) == MOST_DAYS:
            await _write(store, fields)
            fields = {}
    await _write(store, {**fields, "carried": str(today).encode()})  # Last: else all is done again.


async def _first_day(store: Store, oldest: int, today: int) -> int:
    """Return the first day on which a reservation ended."""
    names: Any = await store.ask(store.redis.hkeys(store.keys.usage))
    days = [int(name[5:]) for name in names if name.startswith(b"held/") and name[5:].isdigit()]
    return max(oldest, min(days, default=today))


async def _held(store: Store, day: int) -> list[Held]:
    text = await store.ask(store.redis.hget(store.keys.usage, f"held/{day}"))
    return decode_list(text or b"", Held)


async def _live(store: Store, now_ms: int) -> list[Held]:
    found = records(await store.ask(store.redis.hgetall(store.keys.reservations)))
    uuids = await uuids_by_index(store)
    now = EPOCH + now_ms * MS
    return [
        Held(
            EPOCH + one.started_ms * MS,
            now,
            one.uid,
            one.user,
            tuple(uuids.get(index, f"gpu{index}") for index in one.gpus),
        )
        for one in found
    ]


def _until(later: Iterable[Held], end_ms: int) -> Iterator[Held]:
    """Yield the parts of reservations until the end of a day."""
    end = EPOCH + end_ms * MS
    for one in later:
        if one.began < end:
            yield msgspec.structs.replace(one, ended=min(one.ended, end))


async def _write(store: Store, fields: dict[str, bytes]) -> None:
    mapping: dict[Any, Any] = dict(fields)
    await store.ask(store.redis.hset(store.keys.usage, mapping=mapping))
