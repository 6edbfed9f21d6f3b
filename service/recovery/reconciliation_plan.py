"""Decides what Redis has lost: pure functions of the journal and the data found in Redis."""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from canhazgpu.events.envelope import Undecodable, decode
from canhazgpu.events.linux.processes import Process, open_process
from canhazgpu.events.reservations import RUN, Booked, Record, Waiting
from canhazgpu.service.gpus import card_identity as identity
from canhazgpu.service.reservations.releases import Released
from canhazgpu.service.storage.journal import ENDED_KEPT, Card, State

SEQUENCE = 2  # The place of the sequence in the replies of a read.


class RedisState(msgspec.Struct, frozen=True, kw_only=True):
    """The data in Redis. `dataset` is None if the data has no name, as after a wipe.

    `ended` are the reservations that have ended since the last check, according to the ledger.
    """

    now_ms: int
    dataset: str | None
    owner: str = ""
    sequence: int
    ledger: str
    records: Mapping[str, Record]
    requests: Mapping[str, Waiting]
    cards: Mapping[str, Card]
    bookings: Mapping[str, Booked] = {}
    promised: str = ""
    ended: frozenset[str] = frozenset()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that restore the acknowledged state."""

    restore: tuple[Record, ...] = ()
    drop: tuple[str, ...] = ()
    ended_meanwhile: tuple[str, ...] = ()  # Lost reservations that have ended since.
    requests: tuple[Waiting, ...] = ()
    strong: tuple[str, ...] = ()  # Acknowledged runs in Redis whose process is alive.
    weak: tuple[str, ...] = ()  # Reservations in Redis that were never acknowledged.
    behind: bool = False  # Whether the data is empty, older than expected, or another data set.

    @property
    def needed(self) -> bool:
        """Return whether anything must be written to Redis."""
        return self.lost or bool(self.requests) or self.behind

    @property
    def lost(self) -> bool:
        """Whether Redis has lost anything."""
        return bool(self.restore or self.drop or self.ended_meanwhile)


def plan(state: State, found: RedisState, ended: Collection[str], alive: Callable[[Record], bool]) -> Plan:
    """Return what Redis has lost of `state`.

    `ended`: ids that have ended according to the ledger. `alive` returns whether a run's process is alive. A
    reservation that is neither in Redis nor ended is lost. One that has ended but is in Redis was restored
    with old data. The later of two versions of a reservation counts; of two different ones with the same
    revision, that of `state`.
    """
    missing = [one for name, one in state.records.items() if name not in found.records and name not in ended]
    older = [
        one
        for name, one in state.records.items()
        if name in found.records and _is_newer(one, found.records[name])
    ]
    gone = [one for one in missing if not _lasts(one, found.now_ms, alive)]
    over = {one.id for one in gone}
    drop = tuple(name for name in state.ended if name in found.records)
    behind = found.dataset != state.dataset or found.sequence < state.sequence
    lost = bool(missing or older or drop) or behind
    return Plan(
        restore=(*older, *(one for one in missing if one.id not in over)),
        drop=drop,
        ended_meanwhile=tuple(sorted(over)),
        requests=tuple(one for name, one in state.requests.items() if name not in found.requests)
        if lost
        else (),
        strong=tuple(
            name
            for name, one in found.records.items()
            if lost and name in state.records and one.kind == RUN and alive(one)
        ),
        weak=tuple(name for name in found.records if lost and name not in state.records),
        behind=behind,
    )


def translate_indices(state: State, cards: Mapping[str, Card]) -> State:
    """Return the state with the indices that its cards have in Redis, which may be from before a renumbering.

    The next scan moves the restored records to the current indices, together with all other state.
    """
    former = {int(index): card.uuid for index, card in state.cards.items()}
    seen = {int(index): card.uuid for index, card in cards.items()}
    if former == seen:
        return state
    known = {index: identity.Card(uuid=uuid) for index, uuid in former.items()}
    places = {move.was: move.index for move in identity.current_indices(known, seen)}

    def moved(gpus: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(places.get(index, index) for index in gpus))

    return msgspec.structs.replace(
        state,
        records={
            name: msgspec.structs.replace(one, gpus=moved(one.gpus)) for name, one in state.records.items()
        },
        requests={
            name: msgspec.structs.replace(one, gpus=one.gpus and moved(one.gpus))
            for name, one in state.requests.items()
        },
        cards={str(places[int(index)]): card for index, card in state.cards.items()},
    )


def _is_newer(kept: Record, there: Record) -> bool:
    if kept.rev != there.rev:
        return kept.rev > there.rev
    return _promised(kept) != _promised(there)


def _promised(one: Record) -> tuple[object, ...]:
    """Return the fields that only a new revision may change."""
    return (
        one.kind,
        one.uid,
        sorted(one.gpus),
        one.started_ms,
        one.pid,
        one.start,
        one.expires_ms,
        one.timeout_ms,
    )


def _lasts(record: Record, now_ms: int, alive: Callable[[Record], bool]) -> bool:
    if record.expires_ms is not None and record.expires_ms <= now_ms:
        return False
    return record.kind != RUN or record.ended_ms is not None or alive(record)


def is_process_alive(record: Record) -> bool:
    """Return whether the first process of a run is alive, or True if that cannot be determined."""
    if record.pid is None or record.start is None:
        return False
    try:
        descriptor = open_process(Process(record.pid, record.start))
    except OSError:
        return True
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def fully_released_id(fields: dict[bytes, bytes]) -> str | None:
    """Return the id of the reservation that a ledger entry ended completely, or None."""
    try:
        event = decode(fields)
    except Undecodable:
        return None
    return None if "kept" in event.data else event.subject.removeprefix("reservation/")


def merge_ended_ids(state: State, over: Iterable[str]) -> tuple[str, ...]:
    """Return the newest ids of ended reservations: those of `state`, then those of `over`."""
    return tuple(dict.fromkeys([*state.ended, *sorted(over)]))[-ENDED_KEPT:]


def apply_reply(state: State, reply: Mapping[str, Any]) -> State:
    """Return the state after a script's reply, so that released reservations are not restored.

    If the reply uses other indices, `state` is translated to them, so that both refer to the same cards.
    """
    cards = {index: Card(uuid=uuid) for index, uuid in reply.get("cards", {}).items()}
    if cards:
        state = translate_indices(state, cards)
        state = msgspec.structs.replace(state, cards={**cards, **state.cards})
    records = dict(state.records)
    later = msgspec.convert(reply.get("extended", ()), list[Record])
    released = msgspec.convert(reply.get("released", ()), list[Released])
    records |= {one.id: one for one in later}
    for one in released:
        record = records.pop(one.id, None)
        if record is not None and not one.whole:
            gpus = tuple(index for index in record.gpus if index not in one.gpus)
            records[one.id] = msgspec.structs.replace(record, gpus=gpus, rev=record.rev + 1)
    over = [one.id for one in released if one.whole]
    return msgspec.structs.replace(state, records=records, ended=merge_ended_ids(state, over))


def dataset_condition(state: State, found: RedisState) -> str:
    """Return what is wrong with the data in Redis: empty, damaged, another's or older."""
    if found.dataset is None:
        return "empty"
    if found.sequence < 0:
        return "damaged"
    return "another's" if found.dataset != state.dataset else "older"


def restore_argument(state: State, wanted: Plan, found: RedisState, owner: str) -> dict[str, Any]:
    """Return the argument of the script `restore`, which checks that the cards are still at these indices."""
    return {
        "owner": owner,
        "dataset": state.dataset,
        "sequence": max(state.sequence, found.sequence),
        "records": [encode_for_script(one) for one in wanted.restore],
        "requests": [encode_for_script(one) for one in wanted.requests],
        "ended": wanted.drop,
        "strong": wanted.strong,
        "weak": wanted.weak,
        "cards": state.cards,
        "uuids": {index: card.uuid for index, card in found.cards.items()},
        "behind": wanted.behind,
        "bookings": [encode_for_script(one) for one in state.bookings.values()],
    }


def encode_for_script(one: Record | Waiting | Booked) -> str:
    """Return what the scripts store as JSON, without empty fields."""
    facts = msgspec.to_builtins(one)
    return msgspec.json.encode({name: value for name, value in facts.items() if value is not None}).decode()


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """A restoration: the restored ids, the GPUs that two reservations claimed, and the time (RFC 3339)."""

    at: str
    restored: tuple[str, ...]
    dropped: tuple[str, ...]
    conflicts: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, now_ms: int, facts: Mapping[str, Any]) -> "Restoration":
        """Return a restoration that was made at this time."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_ms / 1000))
        return msgspec.convert({"at": at, **facts}, cls)


def decode_card(uuid: bytes | None, drained: bytes | None, unmanaged: bytes | None) -> Card:
    """Return the administrative state of a GPU from its fields in Redis."""
    return Card(
        uuid=(uuid or b"").decode(), drained=(drained or b"").decode(), unmanaged=unmanaged is not None
    )


def tolerate_damaged_sequence(replies: list[Any]) -> list[Any]:
    """Return the replies of a read, with an invalid text in place of a sequence of another type.

    Raises any other error.
    """
    for at, reply in enumerate(replies):
        if isinstance(reply, Exception) and not (at == SEQUENCE and "WRONGTYPE" in str(reply)):
            raise reply
    return [b"of another type" if isinstance(reply, Exception) else reply for reply in replies]


def digest_of(windows: str | None) -> str:
    """Return what the scripts call `promised` in their replies: it changes with every booking."""
    return hashlib.sha1(windows.encode(), usedforsecurity=False).hexdigest() if windows else ""


def decode_sequence(text: bytes | None) -> int:
    """Return the number of the last event: 0 if there is none, -1 if the value is not a number."""
    if text is None:
        return 0
    return int(text) if text.isdigit() else -1


def without_volatile_fields(state: State) -> State:
    """Return the state without heartbeats and event numbers, which are not worth a write of their own."""
    records = {name: msgspec.structs.replace(one, heartbeat_ms=None) for name, one in state.records.items()}
    return msgspec.structs.replace(state, sequence=0, ledger="", records=records)
