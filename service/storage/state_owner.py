"""Claims the state under a host name for one machine, and moves the state if the machine gets a new name.

The state contains its owner, and every script that allocates GPUs checks it. If two services start with the
same name at the same time, only one of them can write.
"""

import time
from collections.abc import Awaitable
from itertools import chain
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus
from redis.crc import key_slot
from redis.exceptions import ClusterCrossSlotError

from canhazgpu.events.redis_client.keys import HOSTS, MACHINES, Keys
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.storage.machine_id import Machine

CLAIM, RENAME = (Script("canhazgpu.service.storage", verb) for verb in ("claim", "rename"))
AGAIN = 0.2  # Seconds until a change that failed because Redis was down is retried.
SCANS = 3  # A service that lives is seen in so many of its scan intervals, and
CALM = 2.0  # so many seconds for a driver that is slow and for Redis to be found again.
REINSTALLED = 15.0  # Another machine may just be restarting its service: it is given this longer.
LOOKS = 0.1  # Seconds between two looks.
STEP = 500  # Keys that are renamed at once.
OWN_NAME = "set `host` in the settings to a unique name"
NOT_YET = "it is not certain yet that the state under the name {name} belongs to this machine: try again soon"


class NameTaken(Exception):
    """The name belongs to another machine; the message says which one and what to do, on one line."""


class Seen(msgspec.Struct, frozen=True):
    """The claim under a name: the owner, and the time of the owner's last write on Redis' clock."""

    now_ms: int
    owner: Machine | None
    owned: bool
    sign_ms: int
    signs: str

    @property
    def age(self) -> float:
        """The seconds since the last write."""
        return (self.now_ms - self.sign_ms) / 1000


class StateOwner:
    """Holds a machine's claim to the state under its host name while the service runs.

    Until the claim is certain, `store.refusal` prevents all scripts from running.
    """

    def __init__(self, store: Store, machine: Machine, interval: float, *, alone: bool) -> None:
        """`interval`: seconds between two scans. `alone`: the Redis is this service's own."""
        self._store = store
        self.machine = machine
        self._calm = 0.0 if alone else SCANS * interval + CALM
        self._longer = 0.0 if alone else REINSTALLED
        self._contested = anyio.Event()
        self.claimed = anyio.Event()
        store.owner = machine.text
        store.refusal = NOT_YET.format(name=store.keys.host)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Claim the name, and again whenever in doubt. Started once the claim is made, or if Redis is down.

        Raises NameTaken.
        """
        started = False
        while True:
            try:
                if not self.claimed.is_set():
                    await self._follow_name()
                await self._claim()
                await self._ask(self._store.common.hset(MACHINES, self.machine.id, self._store.keys.host))
            except StoreDown as down:
                self._store.report_down(down)
            else:
                self._contested = anyio.Event()
                self._store.refusal = ""
                self.claimed.set()
            if not started:
                started = True
                task_status.started()
            if self._store.refusal:
                await anyio.sleep(AGAIN)
            else:
                await self._contested.wait()

    async def hold(self) -> None:
        """Claim the state again after it was lost. Raises StoreDown until that succeeds."""
        if not self._store.refusal:
            seen = await self._look(self._store.keys)
            while self._is_free(seen):
                if await self._take(seen):
                    return
                seen = await self._look(self._store.keys)
            self._store.refusal = NOT_YET.format(name=self._store.keys.host)
            self._contested.set()
        raise StoreDown(self._store.refusal)

    async def _claim(self) -> None:
        while True:
            seen = await self._look(self._store.keys)
            if not self._is_free(seen) and not await self._is_quiet(self._store.keys, seen):
                raise NameTaken(self._taken(seen))
            if await self._take(seen):
                break
        if seen.owner and not seen.owner.shares_boot(self.machine):
            self._log_taken_over(seen.owner)

    def _is_free(self, seen: Seen) -> bool:
        """Return whether the state certainly belongs to this machine or to a dead process of this boot."""
        if seen.owner is None:
            return not seen.owned and seen.sign_ms == 0
        return seen.owner == self.machine or (
            seen.owner.shares_boot(self.machine) and not seen.owner.is_alive()
        )

    async def _take(self, seen: Seen) -> bool:
        args = [self.machine.text, seen.signs]
        return bool(await self._store.repair(CLAIM, [self._store.keys.scan], args))

    async def _is_quiet(self, keys: Keys, seen: Seen) -> bool:
        """Check twice that the other owner has stopped writing."""
        if seen.owner and seen.owner.shares_boot(self.machine):
            return not seen.owner.is_alive()
        again = seen.owner is not None and seen.owner.id == self.machine.id
        patience = self._calm + (0.0 if again or seen.owner is None else self._longer)
        if patience > seen.age:
            structlog.get_logger().info("waiting_for_name", name=keys.host, seconds=round(patience, 1))
        began = time.monotonic()
        now = seen
        while now.age < patience or time.monotonic() - began < min(patience, self._calm):
            await anyio.sleep(LOOKS)
            now = await self._look(keys)
            if now.signs != seen.signs:
                return False
        return True

    async def _follow_name(self) -> None:
        """Move the state if this machine had another name before."""
        keys = self._store.keys
        known: Any = await self._ask(self._store.common.hget(MACHINES, self.machine.id))
        was = (known or b"").decode()
        if not was or was == keys.host:
            return
        old, new = await self._look(Keys(was)), await self._look(keys)
        if old.owner is None or old.owner.id != self.machine.id:
            return
        if new.owner and new.owner.id == self.machine.id:
            return  # Two services, or two clones, each with a name of its own.
        if not self._is_free(old) and not await self._is_quiet(Keys(was), old):
            return
        if not await self._rename(Keys(was), old):
            raise NameTaken(
                f"host: this machine was called {was}, and {keys.host} has the state of another machine: "
                f'set `host = "{was}"` in the settings, or {OWN_NAME[4:]}'
            )

    async def _rename(self, was: Keys, seen: Seen) -> bool:
        store, keys = self._store, self._store.keys
        if (
            key_slot(was.prefix.encode()) != key_slot(keys.prefix.encode())
            and store.endpoint.kind == "cluster"
        ):
            raise NameTaken(_elsewhere(was.host, keys.host))
        names = await self._names(was)
        operations = [name for name in names if name.startswith(was.operation(0, "").removesuffix("0:"))]
        state = sorted(set(names).difference(operations))
        try:
            renamed = await store.repair(
                RENAME,
                [keys.sequence, keys.events, keys.scan, was.scan, *_pairs(state, was, keys)],
                [keys.host, was.host, self.machine.text, seen.signs, self.machine.id],
            )
        except ClusterCrossSlotError as error:  # A node of a Cluster, by a URL for a single server.
            raise NameTaken(_elsewhere(was.host, keys.host)) from error
        if not renamed:
            return False
        for first in range(0, len(operations), STEP):
            async with store.redis.pipeline(transaction=False) as pipe:
                for name in operations[first : first + STEP]:
                    pipe.rename(*_pairs([name], was, keys))
                await self._ask(pipe.execute(raise_on_error=False))  # They end by themselves after an hour.
        await self._ask(store.common.zrem(HOSTS, was.host))
        structlog.get_logger().warning(
            "host_renamed", was=was.host, name=keys.host, machine=self.machine.id, keys=len(state)
        )
        return True

    async def _names(self, of: Keys) -> list[str]:
        names: set[bytes] = set()
        cursor = -1
        while cursor:
            reply: Any = await self._ask(self._store.redis.scan(max(cursor, 0), of.prefix + "*", STEP))
            cursor = int(reply[0])
            names.update(reply[1])
        return [name.decode() for name in names]

    async def _look(self, keys: Keys) -> Seen:
        async with self._store.of(keys.host) as redis, redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hmget(keys.scan, "owner", "at_ms", "alive_ms")
            clock, signs = await self._ask(pipe.execute())
        texts = [(one or b"").decode() for one in signs]
        return Seen(
            now_ms=int(clock[0]) * 1000 + int(clock[1]) // 1000,
            owner=Machine.of(texts[0]),
            owned=bool(texts[0]),
            sign_ms=max(int(text or 0) for text in texts[1:]),
            signs="|".join(texts),
        )

    async def _ask(self, question: Awaitable[Any]) -> Any:
        return await self._store.ask(question)

    def _taken(self, seen: Seen) -> str:
        name, owner = self._store.keys.host, seen.owner
        if owner is None:
            return f"host: another service has its state under the name {name} in this Redis: {OWN_NAME}"
        if owner.shares_boot(self.machine):  # Under another name both would hand out the same GPUs.
            other = f"another service of this machine (PID {owner.process.pid})"
            return f"host: {other} has its state under the name {name} in this Redis: stop it"
        if owner.id == self.machine.id:
            return (
                f"host: a clone of this machine (machine {owner.id}, another boot) is alive under the name "
                f"{name} in this Redis: {OWN_NAME}, and give the clone its own machine id "
                "(rm /etc/machine-id; systemd-machine-id-setup)"
            )
        return (
            f"host: machine {owner.id} is alive under the name {name} in this Redis, and this is machine "
            f"{self.machine.id}: {OWN_NAME}"
        )

    def _log_taken_over(self, owner: Machine) -> None:
        log, name = structlog.get_logger(), self._store.keys.host
        if owner.id == self.machine.id:
            log.info("name_claimed", name=name, machine=owner.id)
        else:
            log.warning("name_taken_over", name=name, was=owner.id, machine=self.machine.id)


def _elsewhere(was: str, name: str) -> str:
    return (
        f"host: the state of {was} cannot follow this machine's new name {name} on Redis "
        f'Cluster: set `host = "{was}"` in the settings'
    )


def _pairs(names: list[str], was: Keys, now: Keys) -> list[str]:
    """Return each of the old names, followed by its new one."""
    return list(chain.from_iterable((one, now.prefix + one[len(was.prefix) :]) for one in names))
