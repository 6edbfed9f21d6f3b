"""The base of the state machine: a host in Redis, its reference, and the replay of its events."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine
from model.reference import Gpu, Reference
from model.replay import Replay

from canhazgpu.config.settings import Allocation, Gpus, Settings
from canhazgpu.events.envelope import decode
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.allocator import Allocator

ABOUT = ("reservation.", "request.", "gpu.drained", "gpu.undrained", "gpu.managed", "gpu.unmanaged")


class Host(RuleBasedStateMachine):
    """One host of four GPUs and three users."""

    url: ClassVar[str]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store(self.url, f"model-{uuid.uuid4().hex[:12]}")
        self.model = Reference({index: Gpu(index) for index in range(4)})
        self.replay = Replay()
        self.world: dict[int, tuple[str, frozenset[int]]] = dict.fromkeys(range(4), ("ok", frozenset()))
        self.last_id = "-"
        self.again: Callable[[], None] | None = None
        self.choose("lru")

    def choose(self, policy: Any) -> None:
        """Set the allocation policy; no scan ever counts as too old."""
        settings = Settings(gpus=Gpus(scan_interval=1000.0), allocation=Allocation(policy=policy))
        self.model.policy, self.settings = policy, settings
        self.begin_anew()

    def begin_anew(self) -> None:
        """Start a new service without any memory of the one before."""
        self.allocator = Allocator(self.settings, self.store)

    def do(self, work: Any) -> Any:
        """Run a coroutine and apply the events that it published."""
        type(self).steps += 1
        try:
            return self.runner.run(work)
        finally:  # Also of a refusal: what was published before it is not its doing.
            self.told = self.runner.run(self.news())

    async def news(self) -> list[tuple[str, str]]:
        """Apply the events since the last step."""
        start = "-" if self.last_id == "-" else f"({self.last_id}"
        rows: Any = await self.store.redis.xrange(self.store.keys.events, start)
        found = []
        for key, fields in rows:
            self.last_id = key.decode()
            event = decode(fields)
            self.replay.take(event)
            kind = event.type.removeprefix("canhazgpu.")
            if kind.startswith(ABOUT):
                found.append((kind, event.subject))
        return found

    def agree(self, code: str, expected: str) -> None:
        """Assert that both gave the same result and that the events are exactly those of the reference."""
        assert code == expected
        told, self.model.told = self.model.told, []
        assert sorted(self.told) == sorted(told)

    def clock(self) -> None:
        """Set the reference's time to Redis' time: releases have the millisecond of their script."""
        released, had = self.runner.run(self.moments())
        for index, moment in released.items():
            self.model.gpus[index].released = moment
        assert set(had) == set(self.model.had)
        self.model.had = had

    async def moments(self) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
        """Return when each GPU was released and when each user had it last, as Redis has it."""
        released = {}
        for index in range(4):
            text: Any = await self.store.redis.hget(self.store.keys.gpu(index), "last_released")
            released[index] = int(text or 0)
        rows: Any = await self.store.redis.hgetall(self.store.keys.affinity)
        had = {}
        for field, moment in rows.items():
            uid, _, index = field.decode().partition("/")
            had[int(uid), int(index)] = int(moment)
        return released, had

    def teardown(self) -> None:
        """Close the connections."""
        self.runner.run(self.store.close())
        self.runner.close()
