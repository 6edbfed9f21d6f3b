"""Moves the state of a GPU in Redis when the driver gives its card another index.

The driver renumbers cards when one is lost, replaced or moved to another slot. Before a scan is stored, all
state of a card is moved to its current index. If nothing has changed since the last scan, Redis is not
accessed.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from canhazgpu.events.gpu import GpuReading, GpuUsage, vendor_of
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.spelling.gpu_numbers import is_instance, spell_gpu
from canhazgpu.service.gpus.card_identity import (
    Card,
    Move,
    current_indices,
    identifying_uuids,
    identity_warnings,
    is_known_uuid,
    known_uuids,
)
from canhazgpu.service.gpus.missing_instances import MissingInstances
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

RENUMBER, FORGET = (Script("canhazgpu.service.gpus", verb) for verb in ("renumber", "forget"))
ATTEMPTS = 3  # Redis was reset at this moment, or another service writes to it.
NOT_FOUND = "not found by the driver"


class Renumbering:
    """The cards of one host by their index in Redis."""

    def __init__(self, store: Store, rules: AllocationPolicy, patience: float) -> None:
        """Start without knowledge. A card that is not listed for `patience` seconds is removed."""
        self._store, self._rules, self.patience_ms = store, rules, round(patience * 1000)
        self._cards: dict[int, Card] | None = None
        self._seen: dict[int, str] = {}
        self._instances = MissingInstances()
        self._blind = True  # What is missing may have been there since the last scan.
        self._doubts: list[str] = []
        self._as_listed = False  # Whether every card is listed, with the UUID that it has in Redis.
        self.moved: dict[int, int] = {}  # By the last call of `settle`: old index -> new one.
        self.former: dict[
            int, str
        ] = {}  # By the last call of `settle`: other UUIDs in Redis than the scan's.
        self.granted = False  # By the last call of `settle`: whether waiting requests were granted.

    def forget(self) -> None:
        """Discard the knowledge, because Redis did not answer and may have lost data."""
        self._cards, self._seen, self._blind, self._as_listed = None, {}, True, False

    def stall(self) -> None:
        """Record a failed scan; the time for which a card is missing starts again."""
        self._blind = True

    async def settle(self, readings: Sequence[GpuReading], now_ms: int) -> tuple[GpuReading, ...]:
        """Update Redis for the cards of this scan; return the readings, each with the UUID of its card.

        `now_ms`: Redis' clock at the last scan, 0 before the first one. Raises StoreDown.
        """
        self.moved, self.former, self.granted = {}, {}, False
        seen = {reading.index: reading.uuid for reading in readings}
        anew = self._blind and any(map(_is_missing, self._known.values()))
        is_first, known = self._cards is None, self._known.keys()
        if is_first or seen != self._seen or anew:
            await self._renumber(readings, seen)
            self._seen = seen
        elif self._as_listed:
            self._blind = False
            return tuple(readings)
        self._blind = False
        listed = set(identifying_uuids(seen).values())
        again = {index for index, card in self._known.items() if _is_missing(card) and card.uuid in listed}
        self._instances.update(self._known, readings, now_ms, is_first=is_first)
        dissolved = self._instances.dissolved
        overdue = [
            index
            for index, card in self._known.items()
            if index in again
            or index in dissolved
            or (
                card.missing_ms is not None
                and card.missing_ms + self.patience_ms <= now_ms
                and not self._instances.stays(index)
            )
        ]
        divided = any(is_instance(one) and (is_first or one not in known) for one in self._known)
        if overdue or divided:
            await self._forget(overdue, again, dissolved, divided=divided)
        named = tuple(self._named(reading) for reading in readings)
        self._as_listed = named == tuple(readings) and not any(map(_is_missing, self._known.values()))
        return named

    @property
    def _known(self) -> dict[int, Card]:
        return self._cards or {}

    def missing(self) -> list[GpuUsage]:
        """Return the GPUs that the driver does not list, in the form for display."""
        return [
            self._missing(index, card) for index, card in sorted(self._known.items()) if _is_missing(card)
        ]

    def _missing(self, index: int, card: Card) -> GpuUsage:
        """Return a GPU that is not listed; a MIG instance is what its card is."""
        reading = self._instances.unreadable_card(index)
        was = "" if card.was in {None, index} else f" (was GPU {spell_gpu(card.was or 0)})"
        reason = (reading.error or reading.unknown) if reading else None
        return GpuUsage(
            index=index,
            uuid=card.uuid,
            name=card.name,
            vendor=vendor_of(card.uuid),
            state="unknown" if reading and not reading.error else "error",
            reason=reason or NOT_FOUND + was,
            profile=card.profile,
        )

    def _named(self, reading: GpuReading) -> GpuReading:
        """Return a reading with the UUID its card told before: a broken one tells none, or another's."""
        card = self._known[reading.index]
        if card.uuid == reading.uuid or not is_known_uuid(card.uuid):
            return reading
        return msgspec.structs.replace(reading, uuid=card.uuid, name=card.name)

    async def _renumber(self, readings: Iterable[GpuReading], seen: Mapping[int, str]) -> None:
        for _ in range(ATTEMPTS):
            before = self._cards if self._cards is not None else await self._load()
            moves = current_indices(before, seen)
            now_ms = await self._carry_out(before, moves, seen)
            if now_ms:
                break
            self._cards = None
        else:
            raise StoreDown("the host's GPUs change faster than they can be read")
        self._cards = _after(before, moves, readings, now_ms, anew=self._blind)
        self.moved = {move.was: move.index for move in moves}
        self.former = {move.index: before[move.was].uuid for move in moves}
        self._log_moves(before, moves, seen)

    async def _load(self) -> dict[int, Card]:
        redis, keys = self._store.redis, self._store.keys
        known: Any = await self._store.ask(redis.zrange(keys.gpus, 0, -1))
        indices = [int(index) for index in known]
        async with redis.pipeline(transaction=True) as pipe:
            for index in indices:
                pipe.hmget(keys.gpu(index), "uuid", "usage", "missing_ms", "was")
            rows: Any = await self._store.ask(pipe.execute())
        return {index: _card(*row) for index, row in zip(indices, rows, strict=True)}

    async def _carry_out(
        self, before: Mapping[int, Card], moves: Sequence[Move], seen: Mapping[int, str]
    ) -> int:
        """Carry out the moves; return the time on Redis' clock, or 0 if `before` does not match Redis."""
        places = {move.index for move in moves}
        new = {index: uuid for index, uuid in identifying_uuids(seen).items() if index not in places}
        if not before and not new:
            return await self._store.now_ms()
        change = {
            "cards": [
                {"was": move.was, "index": move.index, "missing": move.missing, "uuid": before[move.was].uuid}
                for move in moves
            ],
            "new": [{"index": index, "uuid": uuid} for index, uuid in new.items()],
            "anew": self._blind,
        }
        keys = self._store.keys
        reply = await self._store.run(
            RENUMBER,
            [
                *host_keys(keys)[:7],
                keys.violations,
                keys.open,
                keys.pending,
                keys.silences,
                keys.removed,
                *(keys.gpu(index) for index in sorted({*before, *places, *new})),
            ],
            [keys.host, msgspec.json.encode(change)],
        )
        return int(reply)

    async def _forget(
        self, indices: Sequence[int], again: Container[int], dissolved: Container[int], *, divided: bool
    ) -> None:
        keys, sure = self._store.keys, known_uuids(self._known)
        reply = await self._store.run(
            FORGET,
            [
                *host_keys(keys),
                keys.violations,
                keys.open,
                keys.pending,
                keys.removed,
                *(keys.gpu(index) for index in sorted(self._known)),
            ],
            [
                keys.host,
                self._rules.text,
                self.patience_ms,
                msgspec.json.encode(
                    [
                        {
                            "index": one,
                            "uuid": sure.get(one, ""),
                            "again": one in again,
                            "dissolved": one in dissolved,
                            "early": self._instances.is_early(self._known[one]),
                        }
                        for one in indices
                    ]
                ),
                int(divided),
            ],
        )
        answer: dict[str, Any] = msgspec.json.decode(reply)
        if answer["code"] == "again":
            raise StoreDown("the host's GPUs change faster than they can be read")
        for index in answer.get("removed", ()):
            card = self._known.pop(index)
            structlog.get_logger().warning("gpu_removed", gpu=index, uuid=card.uuid, was=card.was)
        self.granted = bool(answer.get("granted"))

    def _log_moves(self, before: Mapping[int, Card], moves: Sequence[Move], seen: Mapping[int, str]) -> None:
        log = structlog.get_logger()
        shifts = [
            f"GPU {spell_gpu(move.was)} is GPU {spell_gpu(move.index)} now"
            for move in moves
            if move.was != move.index
        ]
        if shifts:
            log.warning("gpus_renumbered", moves=shifts)
        for move in moves:
            card = before[move.was]
            if move.missing and card.missing_ms is None:
                log.warning("gpu_missing", gpu=move.was, uuid=card.uuid, shown_as=move.index)
            elif card.missing_ms is not None and not move.missing:
                log.info("gpu_back", gpu=move.index, uuid=card.uuid)
        told = {
            index: uuid if is_known_uuid(uuid) else self._known[index].uuid for index, uuid in seen.items()
        }
        doubts = identity_warnings(told)
        if doubts and doubts != self._doubts:
            log.warning("gpus_without_identity", reason="; ".join(doubts))
        self._doubts = doubts


def _is_missing(card: Card) -> bool:
    return card.missing_ms is not None


def _after(
    before: Mapping[int, Card],
    moves: Iterable[Move],
    readings: Iterable[GpuReading],
    now_ms: int,
    *,
    anew: bool,
) -> dict[int, Card]:
    """Return the cards as they will be in Redis after the scan is stored."""
    after = {}
    for move in moves:
        card = before[move.was]
        since_ms = now_ms if anew or card.missing_ms is None else card.missing_ms
        missing_ms = since_ms if move.missing else None
        was = (move.was if card.was is None else card.was) if move.missing else None
        after[move.index] = Card(
            uuid=card.uuid, name=card.name, missing_ms=missing_ms, was=was, profile=card.profile
        )
    listed = list(readings)
    sure = identifying_uuids({reading.index: reading.uuid for reading in listed})
    for reading in listed:
        known = after.get(reading.index)
        if known is None or reading.index in sure or not is_known_uuid(known.uuid):
            after[reading.index] = Card(uuid=reading.uuid, name=reading.name, profile=reading.profile)
    return after


def _card(uuid: bytes | None, usage: bytes | None, missing_ms: bytes | None, was: bytes | None) -> Card:
    named = msgspec.json.decode(usage, type=_Named) if usage else _Named(name="")
    return Card(
        uuid=(uuid or b"").decode(),
        name=named.name,
        profile=named.profile,
        missing_ms=int(missing_ms) if missing_ms else None,
        was=int(was) if was else None,
    )


class _Named(msgspec.Struct, frozen=True):
    """The usage that is displayed for a missing card."""

    name: str
    profile: str | None = None
