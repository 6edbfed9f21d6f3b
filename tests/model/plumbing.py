"""The base of the state machine: a host in Redis, its reference, and the replay of its events."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine
from model.booking_reference import BookingReference
from model.comparison import Snapshot, snapshot, vendor_at
from model.facts import Gpu
from model.replay import Replay

from canhazgpu.config.settings import Allocation, Gpus, Settings
from canhazgpu.events.envelope import decode
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.spelling.gpu_numbers import card_of, without_parts
from canhazgpu.service.bookings.bookings import Bookings
from canhazgpu.service.reservations.allocator import Allocator

ABOUT = (
    "booking.",
    "reservation.",
    "request.",
    "gpu.drained",
    "gpu.undrained",
    "gpu.managed",
    "gpu.unmanaged",
)


class Host(RuleBasedStateMachine):
    """One host of four GPUs and three users; two of the GPUs can be divided into two MIG instances each."""

    url: ClassVar[str]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()  # A Runner looks after signals in each step.
        self.store = Store(self.url, f"model-{uuid.uuid4().hex[:12]}")
        self.model = BookingReference({index: Gpu(index, vendor=vendor_at(index)) for index in range(4)})
        self.replay = Replay()
        self.world: dict[int, tuple[str, frozenset[int]]] = dict.fromkeys(range(4), ("ok", frozenset()))
        self.seen: Snapshot  # Redis after the last step that asked it for anything.
        self.last_id = "-"
        self.again: Callable[[], None] | None = None
        self.model.began_ms = round(time.time() * 1000)
        self.choose("lru")

    def choose(self, policy: Any) -> None:
        """Set the allocation policy; no scan ever counts as too old."""
        settings = Settings(gpus=Gpus(scan_interval=1000.0), allocation=Allocation(policy=policy))
        self.model.policy, self.settings = policy, settings
        self.begin_anew()

    def begin_anew(self) -> None:
        """Start a new service without any memory of the one before."""
        self.allocator = Allocator(self.settings, self.store)
        self.bookings = Bookings(self.store, self.allocator)

    def do(self, work: Any) -> Any:
        """Run a coroutine and apply the events that it published."""
        type(self).steps += 1
        return self.loop.run_until_complete(self._do(work))

    async def _do(self, work: Any) -> Any:
        try:
            return await work
        finally:  # Also if it was refused.
            self.seen = await snapshot(self.store, self.last_id, list(self.model.gpus))
            self.told = self.news()

    def news(self) -> list[tuple[str, str]]:
        """Apply the events since the last step."""
        found = []
        for key, fields in self.seen.events:
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

    def existing(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        """Return GPUs that there are: the card instead of an instance that there is not, none named twice."""
        there = {one if one in self.model.gpus else card_of(one) or 0 for one in indices}
        return without_parts(tuple(sorted(there)))

    def clock(self) -> None:
        """Set the reference's time to Redis' time: releases have the millisecond of their script."""
        for index, moment in self.seen.released.items():
            self.model.gpus[index].released = moment
        assert set(self.seen.had) == set(self.model.had)
        self.model.had = self.seen.had

    def teardown(self) -> None:
        """Close the connections."""
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
