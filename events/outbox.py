"""Reads the attempts to deliver notices from Redis, and creates notices that were requested by a user."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec

from canhazgpu.events.envelope import Undecodable, decode
from canhazgpu.events.notices import Delivery
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.events.reservations import Record, Reservation
from canhazgpu.events.timestamps import rfc3339

ANNOUNCE = Script("canhazgpu.events", "announce")
REPLAY = Script("canhazgpu.events", "replay")

Notify = Callable[[Record, str], Awaitable[None]]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that could not be delivered. `id` is for replaying it; `data` is the notice or raw entry."""

    id: str
    time: str
    stream: str
    channel: str
    reason: str
    recipient: str = ""
    data: str = ""


async def send_test(store: Store, channel: str, to: str | None, user: str, uid: int | None) -> str:
    """Create a test notice for one channel; return its id. Raises StoreDown."""
    draft = {"kind": "test", "user": user, "uid": uid, "person": user, "channel": channel, "to": to}
    return await _announce(store, draft)


async def send_reservation(store: Store, kind: str, reservation: Reservation, channel: str | None) -> str:
    """Create a notice to a reservation's user: released, unreserved or timeout. Raises StoreDown."""
    user = reservation.user
    draft = {
        "kind": kind,
        "user": user,
        "uid": reservation.uid,
        "person": user,
        "channel": channel,
        "reservation": reservation,
    }
    return await _announce(store, draft)


def notifier(store: Store) -> Notify:
    """Return what sends notices about reservations to terminals."""

    async def send_notice(record: Record, kind: str) -> None:
        facts = Reservation(
            id=record.id,
            kind=record.kind,
            user=record.user,
            uid=record.uid,
            gpus=record.gpus,
            started=rfc3339(record.started_ms) or "",
            note=record.note,
            pid=record.pid,
        )
        await send_reservation(store, kind, facts, "wall")

    return send_notice


async def _announce(store: Store, draft: dict[str, Any]) -> str:
    keys = store.keys
    names = [keys.sequence, keys.events, keys.notices]
    reply: bytes = await store.run(ANNOUNCE, names, [keys.host, msgspec.json.encode(draft)])
    return reply.decode()


async def deliveries(store: Store, since_ms: int = 0, limit: int = 1000) -> list[Delivery]:
    """Return the newest `limit` attempts since `since_ms`, oldest first. Raises StoreDown."""
    question = store.redis.xrevrange(store.keys.deliveries, "+", str(since_ms), count=limit)
    rows: Any = await store.ask(question)
    return list(_attempts(reversed(rows)))


def _attempts(rows: Any) -> Iterator[Delivery]:
    for _, fields in rows:
        try:
            yield msgspec.convert(decode(fields).data, Delivery)
        except (Undecodable, msgspec.ValidationError):  # Its consumer moves it to the dead letters.
            continue


async def deadletters(store: Store, limit: int = 1000) -> list[DeadLetter]:
    """Return the newest dead letters, oldest first. Raises StoreDown."""
    try:
        rows: Any = await store.redis.xrevrange(store.keys.deadletters, count=limit)
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    return [_letter(key.decode(), fields) for key, fields in reversed(rows)]


def _letter(key: str, fields: dict[bytes, bytes]) -> DeadLetter:
    text = {name.decode("utf-8", "backslashreplace"): _readable(value) for name, value in fields.items()}
    return DeadLetter(
        id=key,
        time=text.get("time", ""),
        stream=text.get("stream", ""),
        channel=text.get("channel", ""),
        reason=text.get("reason", ""),
        recipient=text.get("recipient", ""),
        data=text.get("raw:data", ""),
    )


def _readable(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


async def replay(store: Store, letter: str) -> bool:
    """Deliver a dead letter again; return False if it does not exist. Raises StoreDown."""
    found = [one for one in await deadletters(store) if one.id == letter]
    if not found:
        return False
    return bool(await store.run(REPLAY, [store.keys.deadletters, found[0].stream], [letter]))
