"""Reads what a report needs from Redis, as of one moment: the log of use, reservations, waits and sums."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio.to_thread
import msgspec

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.spelling.gpu_numbers import is_instance
from canhazgpu.service.report.timeline import (
    DAY_MS,
    HOUR_MS,
    NOTHING_SEEN,
    Entry,
    Hold,
    in_order,
    without_overlaps,
)
from canhazgpu.service.storage.records import records, requests

COLLECT = Script("canhazgpu.service.report", "collect")
COLLECTED = {  # By stream, the events that say for how long something was held or waited for.
    "ledger": ["canhazgpu.reservation.released"],
    "events": ["canhazgpu.reservation.created", "canhazgpu.request.left"],
}
PAGE = 500  # Entries that the script reads in one call, so that scans are delayed by only a few milliseconds.
LEAST = 2  # An entry has a time, a level and a holder, and then users.
AT_ONCE = 20  # Fields of days that are read at once.
ATTEMPTS = 5  # To read all of it while no reservation ends.
PER_DAY = DAY_MS // HOUR_MS
EPOCH, MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

T = TypeVar("T")


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A reservation that has ended, or its part until the end of a day."""

    began: datetime
    ended: datetime
    uid: int
    user: str
    cards: tuple[str, ...]


class Waited(msgspec.Struct, frozen=True, array_like=True):
    """The time that a request was in the queue."""

    began: datetime
    ended: datetime
    uid: int
    user: str


class Sums(msgspec.Struct, frozen=True, array_like=True):
    """Sums of whole hours. A row: the hour, positions in `cards` and `users`, the category, and ms."""

    cards: list[str]
    users: list[str]
    rows: list[tuple[int, int, int, int, int]]


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What decides where to read. `summed`: the first hour that is not added up yet, None if none is.

    `carried`: the first day of which it is not kept what went on after it. `cards`: when each GPU was first
    seen, and its last index.
    """

    now_ms: int
    summed: int | None
    carried: int
    cards: dict[str, tuple[int, int]]
    indices: tuple[int, ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. `present`: the indices of GPUs that are there now. `waits`: began, ended, uid.

    `sums`: lists of `Sums`, each without its brackets. They are decoded one at a time, because they are long.
    """

    now_ms: int
    entries: dict[str, list[Entry]]
    holds: dict[str, list[Hold]]
    waits: list[tuple[int, int, int]]
    present: dict[str, int]
    names: dict[int, str]
    sums: list[bytes]


async def collect(store: Store) -> None:
    """Copy what is new in the ledger and in the events of the queue. Raises StoreDown."""
    for name, types in COLLECTED.items():
        keys, wanted = [store.keys.streams[name], store.keys.usage], msgspec.json.encode(types)
        while await store.run(COLLECT, keys, [name, PAGE, wanted]) == PAGE:
            pass


async def read_base(store: Store) -> Base:
    """Return what decides where to read. Raises StoreDown."""
    now_ms = await store.now_ms()
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.hmget(store.keys.usage, "summed", "carried", "cards")
        pipe.zrange(store.keys.gpus, 0, -1)
        (summed, carried, cards), indices = await store.ask(pipe.execute())
    return Base(
        now_ms=now_ms,
        summed=int(summed) if summed and summed.isdigit() else None,
        carried=int(carried) if carried and carried.isdigit() else 0,
        cards=_value(cards, dict[str, tuple[int, int]], {}),
        indices=tuple(map(int, indices)),
    )


async def uuids_by_index(store: Store) -> dict[int, str]:
    """Return the UUIDs of the GPUs that are there now. Raises StoreDown."""
    indices = (await read_base(store)).indices
    async with store.redis.pipeline(transaction=True) as pipe:
        for index in indices:
            pipe.hget(store.keys.gpu(index), "uuid")
        found = await store.ask(pipe.execute())
    return {index: uuid.decode() for index, uuid in zip(indices, found, strict=True) if uuid}


async def facts(  # noqa: PLR0913 - three kinds of days
    store: Store,
    known: Base,
    stale_ms: int,
    *,
    log: Sequence[int] = (),
    sums: Sequence[int] = (),
    waits: Sequence[int] = (),
) -> Facts:
    """Return the facts of these days, which are numbers since 1970. Raises StoreDown.

    `log`: days of which every moment is needed. `stale_ms`: the gap after which it is unknown what GPUs do.
    """
    past = known.now_ms // DAY_MS - 1
    early = [f"sums/{day}" for day in sums if day < past] + [f"waits/{day}" for day in waits if day < past]
    late = [f"sums/{day}" for day in sums if day >= past] + [f"waits/{day}" for day in waits if day >= past]
    fields = await _fields(store, early)
    for _ in range(ATTEMPTS):
        await collect(store)
        answers = await _read(store, known, [*_moments(known, log), *late])
        if answers["complete"]:
            break
    answers["fields"] |= fields
    return await anyio.to_thread.run_sync(_facts, known, answers, stale_ms)


async def _fields(store: Store, names: list[str]) -> dict[str, bytes]:
    """Read what does not change any more, a little at a time, so that other answers are not late."""
    found = {}
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        values: Any = await store.ask(store.redis.hmget(store.keys.usage, some))
        found.update({name: value for name, value in zip(some, values, strict=True) if value is not None})
    return found


def _moments(known: Base, log: Sequence[int]) -> list[str]:
    """Return the fields with every moment of these days. An entry of the log may hold on the next day."""
    hours = {day * PER_DAY + hour for one in log for day in (one - 1, one) for hour in range(PER_DAY)}
    fields = [f"log/{hour}/{card}" for card in known.cards for hour in sorted(hours)]
    if log:
        today = known.now_ms // DAY_MS
        late = range(max(min(log), min(known.carried, today)), today + 2)
        fields += [f"held/{day}" for day in sorted({*log, *late})]
        fields += [f"carried/{day}" for day in log]
    return ["names", "place/ledger", *fields]


async def _read(store: Store, known: Base, wanted: list[str]) -> dict[str, Any]:
    keys, now_ms = store.keys, await store.now_ms()
    async with store.redis.pipeline(transaction=True) as pipe:
        pipe.hget(keys.scan, "at_ms")
        pipe.hgetall(keys.reservations)
        pipe.hgetall(keys.queue)
        pipe.hmget(keys.usage, wanted)
        pipe.xrevrange(keys.ledger, count=1)
        for index in known.indices:
            pipe.hget(keys.gpu(index), "uuid")
        scanned, held, queue, values, last, *uuids = await store.ask(pipe.execute())
    fields = {name: value for name, value in zip(wanted, values, strict=True) if value is not None}
    indexed = zip(uuids, known.indices, strict=True)
    cards = [uuid.decode() if uuid else f"gpu{index}" for uuid, index in indexed]
    return {
        "now_ms": now_ms,
        "scanned_ms": int(scanned or 0),
        "held": held,
        "queue": queue,
        "fields": fields,
        "complete": not last or fields.get("place/ledger") == last[0][0],
        "present": dict(zip(cards, known.indices, strict=True)),
    }


def _facts(known: Base, answers: dict[str, Any], stale_ms: int) -> Facts:
    now_ms, fields, present = answers["now_ms"], answers["fields"], answers["present"]
    at = {index: card for card, index in present.items()}
    held = [one for part in _lists(fields, ("held/", "carried/"), Held) for one in part]
    names = _value(fields.get("names"), dict[int, str], {})
    names |= {one.uid: one.user for one in held}
    holds: dict[str, list[Hold]] = defaultdict(list)
    for one in held:
        for card in one.cards:  # Before a ledger had UUIDs, it had indices.
            name = at.get(int(card[3:]), card) if card[:3] == "gpu" and card[3:].isdecimal() else card
            holds[name].append(Hold(ms(one.began), ms(one.ended), one.uid))
    for record in records(answers["held"]):
        names[record.uid] = record.user
        for index in record.gpus:
            holds[at.get(index, f"gpu{index}")].append(Hold(record.started_ms, now_ms, record.uid))
    waited = [one for part in _lists(fields, ("waits/",), Waited) for one in part]
    waits = [(ms(one.began), ms(one.ended), one.uid) for one in waited]
    waits += [(one.queued_ms, now_ms, one.uid) for one in requests(answers["queue"])]
    seen_ms = now_ms if abs(now_ms - answers["scanned_ms"]) <= stale_ms else answers["scanned_ms"]
    return Facts(
        now_ms=now_ms,
        entries=_entries(known, fields, seen_ms),
        holds={card: without_overlaps(_existing(known, card, some)) for card, some in holds.items()},
        waits=waits,
        present=present,
        names=names,
        sums=[text for name, text in fields.items() if name.startswith("sums/")],
    )


def _existing(known: Base, card: str, holds: Iterable[Hold]) -> Iterable[Hold]:
    """Return reservations of a GPU; of a MIG instance, from its first scan on: before, its card counts."""
    first_ms, index = known.cards.get(card, (0, 0))
    return [hold._replace(start=max(hold.start, first_ms)) for hold in holds] if is_instance(index) else holds


def _entries(known: Base, fields: Mapping[str, bytes], seen_ms: int) -> dict[str, list[Entry]]:
    """Return the log of each GPU, until the last scan."""
    rows: dict[str, list[Entry]] = {card: [] for card in known.cards}
    for name, text in fields.items():  # In the order of the hours.
        if name.startswith("log/"):
            entries = rows[name.split("/", 2)[2]]
            for one in decode_list(text, list[Any]):
                if len(one) > LEAST and isinstance(one[0], int) and one[0] < seen_ms:
                    entries.append(Entry(one[0], one[1], one[2], tuple(one[3:])))
    end = NOTHING_SEEN._replace(ms=seen_ms)
    return {card: in_order([*entries, end]) for card, entries in rows.items()}


def _lists(fields: Mapping[str, bytes], starts: tuple[str, ...], kind: type[T]) -> Iterable[list[T]]:
    return (decode_list(text, kind) for name, text in fields.items() if name.startswith(starts))


def decode_list(text: bytes, kind: type[T]) -> list[T]:
    """Return the values in a field; a field that cannot be read has none."""
    try:
        return msgspec.json.decode(b"[" + text + b"]", type=list[kind])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _value(text: bytes | None, kind: type[T], default: T) -> T:
    """Return the value of a field, or the default if there is none that can be read."""
    try:
        return msgspec.json.decode(text or b"", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return default


def ms(moment: datetime) -> int:
    """Return a time in milliseconds since 1970."""
    return (moment - EPOCH) // MS
