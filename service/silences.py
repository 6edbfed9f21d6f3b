"""Silences: for a time nobody is told of some violations. Each one ends, and at its very second.

What is recorded of violations goes on; who is told is the workers' part. Every change is one script
that also appends its event. The loop sleeps until the next one ends, or until one is added.
"""

from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from canhazgpu.events.silences import Silence
from canhazgpu.events.store import Script, Store, StoreDown

SILENCE, UNSILENCE, LAPSE = (Script("canhazgpu.service", verb) for verb in ("silence", "unsilence", "lapse"))
AGAIN = 0.2  # Seconds until what Redis did not take is tried again.


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A silence to be: it gets its id and its moments from the script."""

    by: str
    by_uid: int
    reason: str
    user: str | None = None
    gpu: int | None = None
    process: str | None = None
    ack: bool = False


class Silenced(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change. `code` is added, ended, not-yours, acknowledged, or none.

    None: there is no such silence; of an acknowledgement, no violation of theirs. Acknowledged: they did
    before; that one ends, or ended, at `until_ms`.
    """

    code: str
    silence: Silence | None = None
    until_ms: int | None = None


class Silences:
    """One host's silences. Everything raises StoreDown when the outcome is unknown."""

    def __init__(self, store: Store) -> None:
        """Keep them in `store`."""
        self._store = store
        self._changed = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """End each silence when its time is over, until cancelled."""
        task_status.started()
        while True:
            self._changed = anyio.Event()
            left: float | None = AGAIN
            try:
                left = await self._lapse()
            except StoreDown as down:
                self._store.lost(down)
            with anyio.move_on_after(left):
                await self._changed.wait()

    async def silence(self, draft: Draft, operation: str, *, lasts: float, ack_max: float) -> Silenced:
        """Add one for `lasts` seconds; an acknowledgement only once in `ack_max` after the one before."""
        keys = self._store.keys
        request = {
            "silence": draft,
            "for_ms": round(lasts * 1000),
            "ack_max_ms": round(ack_max * 1000),
        }
        reply = await self._store.run(
            SILENCE,
            [
                keys.sequence,
                keys.events,
                keys.silences,
                keys.open,
                keys.acks,
                keys.operation(draft.by_uid, f"{'ack' if draft.ack else 'silence'}:{operation}"),
            ],
            [keys.host, msgspec.json.encode(request)],
        )
        self._changed.set()
        return msgspec.json.decode(reply, type=Silenced)

    async def unsilence(self, name: str, operation: str, *, uid: int, by: str, admin: bool) -> Silenced:
        """End one before its time, for the user `uid`: any for an administrator, else their own."""
        keys = self._store.keys
        request: dict[str, Any] = {"id": name, "uid": uid, "by": by, "admin": admin}
        reply = await self._store.run(
            UNSILENCE,
            [
                keys.sequence,
                keys.events,
                keys.silences,
                keys.acks,
                keys.operation(uid, f"unsilence:{operation}"),
            ],
            [keys.host, msgspec.json.encode(request)],
        )
        return msgspec.json.decode(reply, type=Silenced)

    async def _lapse(self) -> float | None:
        """End those that are over; return the seconds until the next one is, None where there is none."""
        keys = self._store.keys
        names = [keys.sequence, keys.events, keys.silences]
        now_ms, next_ms = map(int, await self._store.run(LAPSE, names, [keys.host]))
        return (next_ms - now_ms) / 1000 if next_ms else None
