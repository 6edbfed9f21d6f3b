"""The allocator: every change to reservations and the queue, each one script that also tells of it.

An operation has a name of its caller's; a repeat of it changes nothing and gets the same answer.
Who waits is woken here when something may have changed for them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.reservations import Record, Waiting
from canhazgpu.events.store import UNREACHABLE, Script, Store, StoreDown, unreachable
from canhazgpu.service import kept
from canhazgpu.service.rules import Rules, host_keys
from canhazgpu.service.script_calls import ACKNOWLEDGED, Acknowledge, at_once, lists, named

RESERVE, RELEASE, EXTEND, CONCLUDE, EXPIRE, HEARTBEAT, LEAVE, DRAIN, MANAGE, ADOPT, DISOWN = (
    Script("canhazgpu.service", verb)
    for verb in (
        "reserve",
        "release",
        "extend",
        "conclude",
        "expire",
        "heartbeat",
        "leave",
        "drain",
        "manage",
        "adopt",
        "disown",
    )
)
ATTEMPTS = 3  # A GPU that appears in the very moment of a call makes it begin again.


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request for GPUs as `reserve` takes it: `gpus`, or any `count`. Durations are milliseconds.

    `id` names a request that waits already. `limit`: the most GPUs this user may hold.
    """

    kind: str
    user: str
    uid: int
    count: int | None = None
    gpus: tuple[int, ...] | None = None
    label: str | None = None
    note: str | None = None
    pid: int | None = None
    start: int | None = None
    timeout_ms: int | None = None
    duration_ms: int | None = None
    limit: int | None = None
    wait: bool = False
    id: str | None = None
    login_uid: int | None = None


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that cannot be had: why, and by whom; of one in error or unknown the reason and what to do."""

    gpu: int
    why: str = "held"
    by: str | None = None
    users: tuple[str, ...] | None = None
    kind: str | None = None
    reason: str | None = None
    remedy: str | None = None


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request. `code` is granted, queued, refused, limit, never or gone.

    `counts` has the number of GPUs by what they are to this user: available, held, in_use, claimed,
    drained, error, unknown, unmanaged.
    """

    code: str
    id: str = ""
    reservation: Record | None = None
    counts: dict[str, int] = {}
    blocked: tuple[Blocked, ...] = ()
    troubles: tuple[Blocked, ...] = ()  # Every GPU in error or unknown; 0 alone where none is known.
    missing: tuple[int, ...] = ()
    managed: int = 0
    limit: int | None = None
    need: int = 0


class ReleaseOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which reservations end: those of `uid`, or on `gpus`, or `ids`; `all`: of runs too.

    `everybody`: of all users. `admin` may end what is not theirs. `by` and `reason` are told.
    """

    uid: int
    by: str
    reason: str
    gpus: tuple[int, ...] | None = None
    ids: tuple[str, ...] | None = None
    all: bool = False
    admin: bool = False
    everybody: bool = False


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """One reservation that ended, or gave up `gpus`; `whole` when none is left to it."""

    id: str
    kind: str
    user: str
    uid: int
    gpus: tuple[int, ...]
    whole: bool
    started_ms: int
    pid: int | None = None
    ended: bool = False  # Its process had ended before.


class Allocator:
    """One host's reservations and queue. Everything raises StoreDown when the outcome is unknown."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Work on the host of `store` by the rules of `settings`."""
        self._store = store
        self._rules = Rules.of(settings)
        self._indices: list[int] = []
        self._listeners: set[anyio.Event] = set()
        # Called before a change; what it returns is awaited with the script's reply before that is answered.
        self.begin: Callable[[], Acknowledge] = lambda: at_once
        self.note: Callable[[], None] = lambda: None  # Called after a change that nobody waits for.
        self.closing = False  # The service ends: who waits keeps the place, and comes back to the next one.

    async def reserve(self, ask: Ask, operation: str) -> Reserved:
        """Ask for GPUs; or, with `ask.id`, what became of a request that waits."""
        reply = await self._change(RESERVE, ask.uid, operation, msgspec.json.encode(ask))
        return msgspec.convert(reply, Reserved)

    async def release(self, order: ReleaseOrder, operation: str) -> tuple[str, list[Released], list[Blocked]]:
        """End reservations; return the code (released, none, not-yours), which, and what stood in the way."""
        reply = await self._change(RELEASE, order.uid, operation, msgspec.json.encode(order))
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
    ) -> dict[str, Any]:
        """Let manual reservations last longer, with `cut` by less if need be; return the script's reply."""
        request = {"uid": uid, "add_ms": add_ms, "cut": cut, **({"most_ms": most_ms} if most_ms else {})}
        return await self._change(EXTEND, uid, operation, named(request, gpus))

    async def disown(
        self, uid: int, operation: str, *, gpus: Sequence[int] | None, undo: bool
    ) -> dict[str, Any]:
        """Say that the presumed use of one's GPUs is another's; return the script's reply."""
        return await self._change(DISOWN, uid, operation, named({"uid": uid, "undo": undo}, gpus))

    async def drain(
        self, uid: int, operation: str, *, gpus: Sequence[int], reason: str | None, by: str
    ) -> dict[str, Any]:
        """Take GPUs out of allocation for `reason`, or put them back; return the script's reply."""
        request = {"by": by, **({"reason": reason} if reason else {})}
        return await self._change(DRAIN, uid, operation, named(request, gpus))

    async def manage(
        self, uid: int, operation: str, *, gpus: Sequence[int], force: bool, by: str
    ) -> tuple[dict[str, Any], list[Released]]:
        """Hand out these GPUs and no others; return the script's reply, and what it released."""
        reply = await self._change(MANAGE, uid, operation, named({"by": by, "force": force}, gpus))
        return reply, msgspec.convert(reply.get("released") or [], list[Released])

    async def leave(self, ids: Sequence[str], reason: str) -> bool:
        """Take requests out of the queue; False when none of them waited."""
        reply = await self._run(LEAVE, 0, "leave", [reason, *ids])
        if reply["code"] == "left":
            self.wake()
        return bool(reply["code"] == "left")

    async def expire(self) -> tuple[bool, float | None]:
        """End what is over; return whether anything was, and the seconds until the next end."""
        reply = await self._run(EXPIRE, 0, "expire", [])
        if reply["expired"] or reply["granted"]:
            self.note()
        if reply["granted"]:
            self.wake()
        left = (reply["next_ms"] - reply["now_ms"]) / 1000
        return bool(reply["expired"]), left if reply["next_ms"] else None

    async def conclude(self, reservation: str) -> bool:
        """Say that a run's process has ended; False when that was known. A scan must follow."""
        keys = self._store.keys
        return bool(await self._store.run(CONCLUDE, host_keys(keys)[:5], [keys.host, reservation]))

    async def heartbeat(self, reservations: Iterable[str]) -> None:
        """Say that the processes of these runs live."""
        keys = self._store.keys
        await self._store.run(HEARTBEAT, [keys.reservations], list(reservations))

    async def adopt(self) -> None:
        """Begin: nobody who waits is listening yet."""
        keys = self._store.keys
        await self._store.run(ADOPT, [keys.queue], [])

    async def reservations(self) -> list[Record]:
        """Return every live reservation, the oldest first."""
        return kept.records(await self._rows(self._store.keys.reservations))

    async def waiting(self) -> list[Waiting]:
        """Return the queue in its order."""
        return kept.requests(await self._rows(self._store.keys.queue))

    def listen(self) -> anyio.Event:
        """Return an event that is set when something may have changed for who waits."""
        event = anyio.Event()
        self._listeners.add(event)
        return event

    def unlisten(self, event: anyio.Event) -> None:
        """Listen no more."""
        self._listeners.discard(event)

    def close(self) -> None:
        """Let go of everybody who listens."""
        self.closing = True
        self.wake()

    def wake(self) -> None:
        """Wake who listens."""
        woken, self._listeners = self._listeners, set()
        for event in woken:
            event.set()

    async def _change(self, script: Script, uid: int, operation: str, request: bytes) -> dict[str, Any]:
        while True:
            acknowledge = self.begin()
            reply = await self._run(script, uid, operation, [request])
            if reply["code"] == "queued":
                self.note()
            # What Redis has lost before it could be promised is asked for again.
            if reply["code"] not in ACKNOWLEDGED or await acknowledge(reply):
                break
        if script is not RESERVE or reply["granted"]:  # Who waits asks by it too, and must not wake itself.
            self.wake()
        return reply

    async def _run(
        self, script: Script, uid: int, operation: str, args: Sequence[str | bytes]
    ) -> dict[str, Any]:
        keys = self._store.keys
        for _ in range(ATTEMPTS):
            reply = await self._store.run(
                script,
                [
                    *host_keys(keys),
                    keys.operation(uid, f"{script.name}:{operation}"),
                    *map(keys.gpu, self._indices),
                ],
                [keys.host, self._rules.text_for(self._store.promise), *args],
            )
            decoded: dict[str, Any] = msgspec.json.decode(reply)
            if decoded["code"] != "again":
                return lists(decoded)
            self._indices = await self._known()
        raise StoreDown("the host's GPUs change faster than they can be read")

    async def _known(self) -> list[int]:
        try:
            rows: Any = await self._store.redis.zrange(self._store.keys.gpus, 0, -1)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        return [int(index) for index in rows]

    async def _rows(self, key: str) -> Mapping[bytes, bytes]:
        try:
            rows: Any = await self._store.redis.hgetall(key)
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        return dict(rows)
