"""When the service looks whether reservations have expired."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from support.eventually import eventually
from support.reservations import Lab

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations import lifetime
from canhazgpu.service.reservations.lifetime import Lifetime

pytestmark = pytest.mark.anyio
SECONDS = 2.0
SHORT = 6.0  # Longer than this process may be halted between a reservation and the look at it.


class _Watched:
    """A service's part that ends reservations; `looks` are the moments when it asked for expired ones."""

    def __init__(self, store: Store) -> None:
        self.lab, self.looks = Lab(store), list[float]()
        self._expire = self.lab.allocator.expire
        parts: Any = SimpleNamespace(
            expire=self.expire, reservations=self.lab.allocator.reservations, adopt=self.lab.allocator.adopt
        )
        scanner: Any = SimpleNamespace(request_scan=lambda: None)
        persons: Any = SimpleNamespace(could_include=lambda _: True)
        self.lifetime = Lifetime(store, parts, scanner, self.tell, persons, grace=1.0)

    async def expire(self) -> tuple[bool, float | None]:
        self.looks.append(time.monotonic())
        return await self._expire()

    async def tell(self, *_: Any) -> None:
        raise AssertionError

    async def first_look(self) -> bool:
        return bool(self.looks)

    async def nothing_held(self) -> bool:
        return not await self.lab.allocator.reservations()


@asynccontextmanager
async def watched(store: Store) -> AsyncIterator[_Watched]:
    """Run it until the block ends, from its first look on."""
    host = _Watched(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.lifetime.run)
        await eventually(host.first_look)
        yield host
        tasks.cancel_scope.cancel()


async def test_a_long_reservation_is_looked_at_before_it_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it begins: first shortly before its end, and then exactly then."""
    monkeypatch.setattr(lifetime, "LONG", SECONDS / 2)
    async with watched(store) as host:
        began = time.monotonic()
        record = await host.lab.record(await host.lab.reserve(hours=SECONDS / 3600))
        host.lifetime.plan_expiry(record)
        await eventually(host.nothing_held)
    assert host.looks[1] - began >= SECONDS * lifetime.SURELY * 0.99
    assert len(host.looks) in {2, 3}


@pytest.mark.parametrize("older", [0.0, lifetime.LATELY + 5])
async def test_a_short_or_older_one_is_looked_at_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, older: float
) -> None:
    """The script says when a short one ends, or one that has begun some time ago."""
    monkeypatch.setattr(lifetime, "LONG", 1.0 if older else 600.0)
    async with watched(store) as host:
        name = await host.lab.reserve(hours=(SHORT + older) / 3600)
        await host.lab.later(older / 60)
        host.lifetime.plan_expiry(await host.lab.record(name))
        await eventually(host.nothing_held)
    assert len(host.looks) in {3, 4}
