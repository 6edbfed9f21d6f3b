"""Checks whether Redis keeps what it acknowledges: persistence, eviction policy, last write."""

from typing import Any

from redis.exceptions import ResponseError

from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.server_program import identify

WANTED = {
    "appendonly": ("yes", "a crash loses reservations: set `appendonly yes`"),
    "maxmemory-policy": (
        "noeviction",
        "Redis may evict reservations: set `maxmemory-policy noeviction`",
    ),
}
SYNC = "a crash of the host may lose the last second: set `appendfsync always`"


async def weaknesses(store: Store) -> list[str]:
    """Return the settings that are weaker than this service requires, with remedies. Raises StoreDown."""
    found = []
    try:
        for name, (wanted, remedy) in WANTED.items():
            value = await _setting(store, name)
            if value is not None and value != wanted:
                found.append(f"Redis has `{name} {value}`: {remedy}")
        value = await _setting(store, "appendfsync")
        if value not in (None, "always"):
            found.append(f"Redis has `appendfsync {value}`: {SYNC}")
        info: Any = await store.redis.info("persistence")
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    if info.get("aof_enabled") and info.get("aof_last_write_status") not in (None, "ok"):
        found.append("Redis could not write its append-only file: check its disk")
    return found


async def describe(store: Store, embedded: EmbeddedRedis | None) -> dict[str, str | None]:
    """Return the type and version of the server, and any damage of its file. Raises StoreDown."""
    server = await identify(store)
    program = embedded.server.program if embedded and embedded.server else None
    damage = embedded.damage if embedded else None
    return {"server": server.family, "version": server.version, "program": program, "damage": damage}


async def _setting(store: Store, name: str) -> str | None:
    """Return a setting, or None if this user is not allowed to read it."""
    try:
        answer: Any = await store.redis.config_get(name)
    except ResponseError:
        return None
    value = answer.get(name) or answer.get(name.encode())
    return value.decode() if isinstance(value, bytes) else value
