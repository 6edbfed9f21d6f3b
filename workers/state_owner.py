"""Checks the owner of the state under the host's name: a worker never consumes another machine's streams.

The check runs before anything is read, before anybody is notified, and before entries are acknowledged.
"""

from typing import Any

from canhazgpu.events.redis_client.store import Store, StoreDown

OWN_NAME = "set `host` in the settings to a unique name"


async def check_owner(store: Store) -> None:
    """Raise StoreDown unless the state is of the service, or of the machine and boot, in `store.owner`."""
    if not store.owner:
        return
    found: Any = await store.ask(store.redis.hget(store.keys.scan, "owner"))
    owner = (found or b"").decode()
    if owner != store.owner and not owner.startswith(f"{store.owner} "):
        raise StoreDown(_reason(store.keys.host, owner, store.owner))


def _reason(host: str, owner: str, ours: str) -> str:
    if not owner:
        return f"no service has claimed the state under the name {host} yet: is `canhazgpu serve` running?"
    machine = owner.split(maxsplit=1)[0]
    if machine == ours.split(maxsplit=1)[0]:
        return (
            f"the state under the name {host} is of another boot of this machine, or of a clone: "
            f"start `canhazgpu serve`, or {OWN_NAME}"
        )
    return f"the state under the name {host} is of another machine ({machine}): {OWN_NAME}"
