"""Copies what is over: the newest ended reservations, and the hours that are added up."""

from typing import Any

from canhazgpu.events.redis_client.fleet_copy import MOST_DAYS, MOST_ENDED, encode_ended, encode_hours
from canhazgpu.events.redis_client.store import Store
from canhazgpu.workers.fleet.fleet_redis import fleet_errors

RELEASED = b"canhazgpu.reservation.released"
PER_DAY = 24


class PastCopy:
    """The copy of the past of `store` on the Redis of `fleet`. Raises FleetDown and StoreDown."""

    def __init__(self, store: Store, fleet: Store) -> None:
        """Nothing is copied yet."""
        self._store, self._fleet = store, fleet
        self._ended = ""
        self._summed = b""

    def forget(self) -> None:
        """Copy everything again: the fleet's Redis may have lost it."""
        self._ended, self._summed = "", b""

    async def write_ended(self, last: str) -> None:
        """Copy the newest ended reservations, unless `last` was the last entry of the ledger before."""
        if last == self._ended:
            return
        keys = self._store.keys
        found: Any = await self._store.ask(self._store.redis.xrevrange(keys.ledger, count=MOST_ENDED))
        rows = [
            (fields[b"time"].decode("utf-8", "replace"), fields[b"data"])
            for _, fields in reversed(found)
            if fields.get(b"type") == RELEASED and b"time" in fields and b"data" in fields
        ]
        with fleet_errors():
            await self._fleet.redis.set(keys.fleet_ended, encode_ended(rows))
        self._ended = last

    async def write_hours(self) -> None:
        """Copy the sums of the last days, unless there is no new hour."""
        keys = self._store.keys
        summed: Any = await self._store.ask(self._store.redis.hget(keys.usage, "summed"))
        if not summed or not summed.isdigit() or summed == self._summed:
            return
        today = int(summed) // PER_DAY
        days = range(today - MOST_DAYS + 2, today + 1)
        names = ["names", *(f"{kind}/{day}" for day in days for kind in ("sums", "waits"))]
        values: Any = await self._store.ask(self._store.redis.hmget(keys.usage, names))
        fields = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        with fleet_errors():
            await self._fleet.redis.set(keys.fleet_hours, encode_hours({**fields, "summed": summed}))
        self._summed = summed
