"""Copies the state of the host - GPUs, reservations, queue, open violations - as one value."""

import uuid
from typing import Any

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.redis_client.fleet_copy import (
    MISSING,
    PROBE,
    RESTARTED,
    STATE,
    CopiedState,
    CopyState,
    encode_state,
)
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.workers.fleet.fleet_redis import FleetDown, fleet_errors
from canhazgpu.workers.fleet.held_copy import HeldCopy


class StateCopy:
    """The copy of the state of `store` on the Redis of `fleet`. Raises FleetDown and StoreDown."""

    def __init__(self, settings: Settings, store: Store, fleet: Store) -> None:
        """Store the parameters; some settings are part of the copy."""
        self._store, self._fleet, self._settings = store, fleet, settings
        self.held = HeldCopy(fleet)

    async def check(self) -> None:
        """Raise FleetDown if the fleet's Redis is the host's own, where the copy would destroy the state."""
        key, probe = self._store.keys.fleet, uuid.uuid4().hex.encode()
        with fleet_errors():
            await self._fleet.redis.hset(key, PROBE, probe)
        if await self._store.ask(self._store.redis.hget(key, PROBE)) == probe:
            raise FleetDown("fleet.url is the Redis that has this host's state: set another one")

    async def write(self) -> None:
        """Copy the state."""
        keys = self._store.keys
        at_ms, hashes, gpus = await self._read()
        machine = (hashes[keys.scan].get(b"owner") or b"").partition(b" ")[0].decode()
        with fleet_errors():
            facts: Any = await self._fleet.redis.hgetall(keys.fleet)
            clock: Any = await self._fleet.redis.time()
            seen_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
            missing, restarted = _counts(facts, MISSING), _counts(facts, RESTARTED)
        _refuse_another(facts.get(STATE.encode()), machine, seen_ms, keys.host)
        copy = CopyState(
            seen_ms=seen_ms,
            at_ms=at_ms,
            interval_ms=round(self._settings.fleet.interval * 1000),
            scan_interval_ms=round(self._settings.gpus.scan_interval * 1000),
            presume_holder=self._settings.violations.presume_holder,
            machine=machine,
        )
        state = CopiedState(
            copy=copy,
            scan=hashes[keys.scan],
            open=hashes[keys.open],
            reservations=hashes[keys.reservations],
            queue=hashes[keys.queue],
            silences=hashes[keys.silences],
            gpus={index: hashes[keys.gpu(index)] for index in gpus},
            missing=missing,
            restarted=restarted,
        )
        with fleet_errors():
            async with self._fleet.redis.pipeline(transaction=True) as batch:
                batch.set(keys.fleet_state, encode_state(state))
                batch.hset(keys.fleet, STATE, msgspec.json.encode(copy))
                await batch.execute()
        await self.held.write(state.reservations.values(), seen_ms)

    async def _read(self) -> tuple[int, dict[str, dict[bytes, bytes]], list[int]]:
        """Return the host's time in ms, its hashes by key, and the indices of its GPUs."""
        keys = self._store.keys
        names = [keys.scan, keys.open, keys.reservations, keys.queue, keys.silences]
        try:
            known: Any = await self._store.redis.zrange(keys.gpus, 0, -1)
            gpus = [int(index) for index in known]
            names += [keys.gpu(index) for index in gpus]
            async with self._store.redis.pipeline(transaction=True) as pipe:
                pipe.time()
                for name in names:
                    pipe.hgetall(name)
                clock, *hashes = await pipe.execute()
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        at_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        return at_ms, dict(zip(names, hashes, strict=True)), gpus


def _counts(facts: dict[bytes, bytes], prefix: str) -> dict[str, int]:
    return {
        name.decode().removeprefix(prefix): int(count)
        for name, count in sorted(facts.items())
        if name.startswith(prefix.encode())
    }


def _refuse_another(text: bytes | None, machine: str, now_ms: int, host: str) -> None:
    """Raise FleetDown if another machine has written a copy under this name a moment ago."""
    try:
        state = msgspec.json.decode(text, type=CopyState) if text else None
    except msgspec.DecodeError:
        return
    if state and state.machine not in ("", machine) and now_ms - state.seen_ms < state.patience_ms:
        raise FleetDown(
            f"another machine ({state.machine}) is in the fleet under the name {host}:"
            " set `host` in the settings to a unique name"
        )
