"""Silences suppress notices about some violations for a time.

Violations are still recorded; the workers decide about notices. Every change is one script that also appends
its event. The loop sleeps until the next silence ends, or until one is added.
"""

from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.silences import Silence

SILENCE, UNSILENCE, LAPSE = (
    Script("canhazgpu.service.silences", verb) for verb in ("silence", "unsilence", "lapse")
)
AGAIN = 0.2  # Seconds until a change that failed because Redis was down is retried.


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A new silence, before the script assigns its id and times."""

    by: str
    by_uid: int
    reason: str
    user: str | None = None
    gpu: int | None = None
    process: str | None = None
    ack: bool = False


class Silenced(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a change. `code` is added, ended, not-yours, acknowledged, or none.

    `none`: there is no such silence or, for an acknowledgement, no violation of the user. `acknowledged`:
    there already was an acknowledgement, which ends or ended at `until_ms`.
    """

    code: str
    silence: Silence | None = None
    until_ms: int | None = None


class Silences:
    """The silences of one host. All methods raise StoreDown if the outcome is unknown."""

    def __init__(self, store: Store) -> None:
        """Use `store`."""
        self._store = store
        self._changed = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """End silences at their time, until cancelled."""
        task_status.started()
        while True:
            self._changed = anyio.Event()
            left: float | None = AGAIN
            try:
                left = await self._lapse()
            except StoreDown as down:
                self._store.report_down(down)
            with anyio.move_on_after(left):
                await self._changed.wait()

    async def silence(self, draft: Draft, operation: str, *, lasts: float, ack_max: float) -> Silenced:
        """Add a silence for `lasts` seconds; an acknowledgement only if the last one ended `ack_max` ago."""
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
        """End a silence early for the user `uid`: any one for an administrator, else only their own."""
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
        """End expired silences; return the seconds until the next one expires, or None."""
        keys = self._store.keys
        names = [keys.sequence, keys.events, keys.silences]
        now_ms, next_ms = map(int, await self._store.run(LAPSE, names, [keys.host]))
        return (next_ms - now_ms) / 1000 if next_ms else None
