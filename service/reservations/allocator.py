"""The allocator makes all changes to reservations and the queue. Each is one script that appends its events.

The caller gives every operation an id; repeating an operation changes nothing and returns the same answer.
Waiting requests are woken when something may have changed for them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import Vendor
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.service.reservations.releases import Released, ReleaseOrder
from canhazgpu.service.reservations.script_replies import (
    ACKNOWLEDGED,
    Acknowledge,
    Blocked,
    Reserved,
    decode_lists,
    encode_request,
    skip_journal,
)
from canhazgpu.service.storage import records
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

RESERVE, RELEASE, EXTEND, CONCLUDE, EXPIRE, HEARTBEAT = (
    Script("canhazgpu.service.reservations", verb)
    for verb in ("reserve", "release", "extend", "conclude", "expire", "heartbeat")
)
LEAVE, DRAIN, MANAGE, ADOPT, DISOWN, LABEL = (
    Script("canhazgpu.service.reservations", verb)
    for verb in ("leave", "drain", "manage", "adopt", "disown", "label")
)
ATTEMPTS = 10  # A GPU that appears during a call restarts the call, and so does each loss of Redis' data.


class AllocationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parameters of `reserve`: `gpus`, or any `count` of a vendor, or of MIG instances of a profile.

    Durations are in milliseconds. `id` is that of a request that already waits. `limit`: how many GPUs this
    user can hold here now, and `most` if they held none on other hosts; `fleet_limit` and `elsewhere` as in
    the queue. `uuids` are those of the `gpus` that were named by UUID: the script follows them.
    """

    kind: str
    user: str
    uid: int
    count: int | None = None
    vendor: Vendor | None = None
    profile: str | None = None
    gpus: tuple[int, ...] | None = None
    label: str | None = None
    note: str | None = None
    pid: int | None = None
    start: int | None = None
    timeout_ms: int | None = None
    duration_ms: int | None = None
    limit: int | None = None
    most: int | None = None
    fleet_limit: int | None = None
    elsewhere: dict[str, int] | None = None
    wait: bool = False
    id: str | None = None
    login_uid: int | None = None
    uuids: dict[int, str] | None = None


class Allocator:
    """The reservations and the queue of one host. All methods raise StoreDown if the outcome is unknown."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Use the host of `store` and the rules in `settings`."""
        self._store = store
        self._rules = AllocationPolicy.of(settings)
        self._indices: list[int] = []
        self._listeners: set[anyio.Event] = set()
        # Called before a change; its result is awaited with the script's reply before the reply is returned.
        self.begin: Callable[[], Acknowledge] = lambda: skip_journal
        self.note: Callable[[], None] = lambda: None  # Called after a change that no caller waits for.
        self.closing = False  # The service is stopping: requests keep their place and reconnect later.

    async def reserve(self, request: AllocationRequest, operation: str) -> Reserved:
        """Request GPUs, or with `ask.id`, check a waiting request."""
        reply = await self.change(RESERVE, request.uid, operation, msgspec.json.encode(request))
        return msgspec.convert(reply, Reserved)

    async def release(self, order: ReleaseOrder, operation: str) -> tuple[str, list[Released], list[Blocked]]:
        """End reservations; return the code (released, none, not-yours), what ended, and the obstacles."""
        reply = await self.change(RELEASE, order.uid, operation, msgspec.json.encode(order))
        return (
            reply["code"],
            msgspec.convert(reply.get("released") or [], list[Released]),
            msgspec.convert(reply.get("blocked") or [], list[Blocked]),
        )

    async def extend(  # noqa: PLR0913 - each says one thing about the extension
        self,
        uid: int,
        operation: str,
        *,
        gpus: Sequence[int] | None,
        add_ms: int,
        most_ms: int | None,
        cut: bool = False,
        person: int | None = None,
        uuids: Mapping[int, str] | None = None,
    ) -> dict[str, Any]:
        """Extend manual reservations, with `cut` up to the limit; return the script's reply."""
        request = {"uid": uid, "add_ms": add_ms, "cut": cut, **({"most_ms": most_ms} if most_ms else {})}
        return await self.change(EXTEND, uid, operation, encode_request(_by(request, person), gpus, uuids))

    async def disown(  # noqa: PLR0913 - which GPUs, and what changes
        self,
        uid: int,
        operation: str,
        *,
        gpus: Sequence[int] | None,
        undo: bool,
        person: int | None = None,
        uuids: Mapping[int, str] | None = None,
    ) -> dict[str, Any]:
        """Disown presumed use of the holder's GPUs, or undo that; return the script's reply."""
        request = _by({"uid": uid, "undo": undo}, person)
        return await self.change(DISOWN, uid, operation, encode_request(request, gpus, uuids))

    async def drain(  # noqa: PLR0913 - which GPUs, and what changes
        self,
        uid: int,
        operation: str,
        *,
        gpus: Sequence[int],
        reason: str | None,
        by: str,
        uuids: Mapping[int, str] | None = None,
    ) -> dict[str, Any]:
        """Drain GPUs for `reason`, or undrain them; return the script's reply."""
        request = {"by": by, **({"reason": reason} if reason else {})}
        return await self.change(DRAIN, uid, operation, encode_request(request, gpus, uuids))

    async def manage(  # noqa: PLR0913 - which GPUs, and what changes
        self,
        uid: int,
        operation: str,
        *,
        gpus: Sequence[int],
        force: bool,
        by: str,
        uuids: Mapping[int, str] | None = None,
    ) -> tuple[dict[str, Any], list[Released]]:
        """Manage exactly these GPUs; return the script's reply and the released reservations."""
        reply = await self.change(
            MANAGE, uid, operation, encode_request({"by": by, "force": force}, gpus, uuids)
        )
        return reply, msgspec.convert(reply.get("released") or [], list[Released])

    async def label(self, uid: int, operation: str, *, kind: str, reservation: str, label: str) -> bool:
        """Give a reservation of this kind another label; return whether there is one."""
        request = {"kind": kind, "id": reservation, "label": label}
        reply = await self.change(LABEL, uid, operation, msgspec.json.encode(request))
        return bool(reply["code"] == "done")

    async def leave(self, ids: Sequence[str], reason: str) -> bool:
        """Remove requests from the queue; return False if none of them was waiting."""
        reply = await self.run(LEAVE, 0, "leave", [reason, *ids])
        if reply["code"] == "left":
            self.note()
            self.wake()
        return bool(reply["code"] == "left")

    async def expire(self) -> tuple[bool, float | None]:
        """End expired reservations; return whether there were any, and the seconds until the next expiry."""
        reply = await self.run(EXPIRE, 0, "expire", [])
        if reply["expired"] or reply["granted"]:
            self.note()
        if reply["granted"]:
            self.wake()
        left = (reply["next_ms"] - reply["now_ms"]) / 1000
        return bool(reply["expired"]), left if reply["next_ms"] else None

    async def conclude(self, reservation: str) -> bool:
        """Record that a run's process has ended; return False if that was known. A scan must follow."""
        keys = self._store.keys
        return bool(await self._store.run(CONCLUDE, host_keys(keys)[:5], [keys.host, reservation]))

    async def heartbeat(self, reservations: Iterable[str]) -> None:
        """Record that the processes of these runs are alive."""
        await self._store.run(HEARTBEAT, [self._store.keys.reservations], list(reservations))

    async def adopt(self) -> None:
        """Mark all waiting requests as not connected."""
        await self._store.run(ADOPT, [self._store.keys.queue], [])

    async def reservations(self) -> list[Record]:
        """Return all live reservations, the oldest first."""
        return records.records(await self._rows(self._store.keys.reservations))

    async def waiting(self) -> list[Waiting]:
        """Return the queue in its order."""
        return records.requests(await self._rows(self._store.keys.queue))

    def listen(self) -> anyio.Event:
        """Return an event that is set when something may have changed for a waiting request."""
        event = anyio.Event()
        self._listeners.add(event)
        return event

    def unlisten(self, event: anyio.Event) -> None:
        """Stop listening."""
        self._listeners.discard(event)

    def close(self) -> None:
        """Wake and remove all listeners."""
        self.closing = True
        self.wake()

    def wake(self) -> None:
        """Wake all listeners."""
        woken, self._listeners = self._listeners, set()
        for event in woken:
            event.set()

    async def change(
        self, script: Script, uid: int, operation: str, request: bytes, more: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Make one change by a script, which has `more` keys before those of the GPUs; return its reply."""
        while True:
            acknowledge = self.begin()
            reply = await self.run(script, uid, operation, [request], more)
            if reply["code"] == "queued":
                self.note()
            # If Redis lost the change before it was in the journal, the script runs again.
            if reply["code"] not in ACKNOWLEDGED or await acknowledge(reply):
                break
        if script is not RESERVE or reply["granted"]:  # A waiting request must not wake itself.
            self.wake()
        return reply

    async def known_reply(self, script: Script, uid: int, operation: str) -> dict[str, Any] | None:
        """Return the reply of a script to an earlier call with this operation, None if there is none."""
        key = self._store.keys.operation(uid, f"{script.name}:{operation}")
        text: Any = await self._store.ask(self._store.redis.get(key))
        return decode_lists(msgspec.json.decode(text)) if text else None

    async def run(
        self, script: Script, uid: int, operation: str, args: Sequence[str | bytes], more: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Run a script that opens the host; return its reply, which is not written to the journal here."""
        keys = self._store.keys
        for _ in range(ATTEMPTS):
            own = [keys.operation(uid, f"{script.name}:{operation}"), *more, *map(keys.gpu, self._indices)]
            rules = self._rules.text_for(self._store.fencing_token)
            reply = await self._store.run(script, [*host_keys(keys), *own], [keys.host, rules, *args])
            decoded: dict[str, Any] = msgspec.json.decode(reply)
            if decoded["code"] != "again":
                return decode_lists(decoded)
            self._indices = await self._known()
        raise StoreDown("the host's GPUs change faster than they can be read")

    async def _known(self) -> list[int]:
        rows: Any = await self._store.ask(self._store.redis.zrange(self._store.keys.gpus, 0, -1))
        return [int(index) for index in rows]

    async def _rows(self, key: str) -> Mapping[bytes, bytes]:
        rows: Any = await self._store.ask(self._store.redis.hgetall(key))
        return dict(rows)


def _by(request: dict[str, Any], person: int | None) -> dict[str, Any]:
    return request if person is None else {**request, "person": person}
