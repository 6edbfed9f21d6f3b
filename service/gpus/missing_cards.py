"""Finds the violations on missing cards of which no process is left.

No scan sees the processes on a card that the driver does not list, but /proc says which of them have ended.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from canhazgpu.events.linux.processes import start_time_of
from canhazgpu.events.redis_client.store import Store


class _Use(msgspec.Struct, frozen=True):
    pid: int
    start: int | None = None


class _Body(msgspec.Struct, frozen=True):
    processes: tuple[_Use, ...] = ()


class _Record(msgspec.Struct, frozen=True):
    body: str


async def ended_violations(store: Store, missing: Collection[int]) -> list[str]:
    """Return the open violations ("GPU/key") on these GPUs whose processes have all ended.

    A violation without processes, or with one whose start is unknown, is not among them. Raises StoreDown,
    and OSError if processes cannot be read for lack of descriptors or memory.
    """
    if not missing:
        return []
    rows: dict[bytes, Any] = await store.ask(store.redis.hgetall(store.keys.open))
    found = [(field.decode(), text) for field, text in rows.items()]
    return [field for field, text in found if int(field.partition("/")[0]) in missing and _is_over(text)]


def _is_over(text: bytes) -> bool:
    body = msgspec.json.decode(msgspec.json.decode(text, type=_Record).body, type=_Body)
    return bool(body.processes) and all(
        one.start is not None and start_time_of(one.pid) != one.start for one in body.processes
    )
