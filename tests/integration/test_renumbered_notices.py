"""Notices after a renumbering have the index that the card has when the notice is created."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from support.cards import CardHost
from support.eventually import eventually
from support.reservations import ALICE, BOB

from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import decode
from canhazgpu.events.notices import Notice
from canhazgpu.events.redis_client.store import Store
from canhazgpu.notifiers.messages.plain_text import lines, subject
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio
QUICK: dict[str, Any] = {"group_wait": 0.0, "group_interval": 0.0, "resolve_hold": 0.0, "incident_wait": 0.0}


@asynccontextmanager
async def telling(store: Store) -> AsyncIterator[None]:
    """Run a dispatcher until the block ends."""
    settings = Settings(host="h", notices=Notices(**QUICK))
    async with anyio.create_task_group() as tasks:
        await tasks.start(Dispatcher(settings, store, "daemon").run)
        yield
        tasks.cancel_scope.cancel()


async def notices(store: Store) -> list[Notice]:
    """Return the notices so far."""
    rows: Any = await store.redis.xrange(store.keys.notices)
    return [msgspec.convert(decode(fields).data, Notice) for _, fields in rows]


async def made(store: Store, *kinds: str) -> list[Notice]:
    """Wait for this number of notices; they must be of these kinds."""

    async def there() -> bool:
        return len(await notices(store)) >= len(kinds)

    await eventually(there)
    found = await notices(store)
    assert [one.kind for one in found] == list(kinds)
    return found


async def test_a_card_that_failed_is_told_to_work_under_its_new_index(store: Store) -> None:
    """The recovery of a renumbered card has its new index, and a failure at the old index is reported."""
    host = CardHost(store)
    async with telling(store):
        await host.scan("A", "B")
        await host.scan("A", "B", failing=["A"])
        (failed,) = await made(store, "gpu-failed")
        await host.scan("B", "A", failing=["A"])
        await host.scan("B", "A", failing=["A", "B"])
        _, other = await made(store, "gpu-failed", "gpu-failed")
        await host.scan("B", "A", failing=["B"])
        *_, well = await made(store, "gpu-failed", "gpu-failed", "gpu-recovered")
    assert [one.incident.subject for one in (failed, other, well) if one.incident] == [
        "gpu/0",
        "gpu/0",
        "gpu/1",
    ]


async def test_an_incident_of_before_ends_under_its_old_name(store: Store) -> None:
    """A failure that an older service stored by index is resolved by that index."""
    host = CardHost(store)
    async with telling(store):
        await host.scan("A", "B", failing=["B"])
        await made(store, "gpu-failed")
        groups: Any = await store.redis.hgetall(store.keys.groups)
        await store.redis.hdel(store.keys.groups, b"incident gpu/B")
        await store.redis.hset(store.keys.groups, b"incident gpu/1", groups[b"incident gpu/B"])
        await host.scan("A", "B")
        await made(store, "gpu-failed", "gpu-recovered")


async def test_who_was_told_of_a_card_is_not_told_again_when_it_is_renumbered(store: Store) -> None:
    """A renumbered card causes no second notice, and its end has the new index."""
    host = CardHost(store)
    async with telling(store):
        host.uses = {"A": (BOB,)}
        await host.scan("A", "B")
        await host.scan("A", "B")
        await made(store, "opened")
        await host.scan("B", "A")
        host.uses = {"A": (BOB,), "B": (BOB,)}
        await host.scan("B", "A")
        await host.scan("B", "A")
        _, more = await made(store, "opened", "changed")
        host.uses = {}
        await host.scan("B", "A")
        *_, over = await made(store, "opened", "changed", "resolved")
    for told in (more, over):
        assert {(one.gpu, one.gpu_uuid) for one in told.violations} == {(1, "A"), (0, "B")}


async def test_nothing_is_told_of_processes_on_a_missing_card(store: Store) -> None:
    """No notice is sent about processes on a missing card, until it is back."""
    host = CardHost(store)
    host.uses = {"A": (BOB,)}
    for cards in (("A", "B"), ("A", "B"), ("B",)):
        await host.scan(*cards)

    async def known() -> bool:
        return bool(await store.ask(store.redis.hexists(store.keys.groups, f"uid:{BOB}")))

    async with telling(store):
        await eventually(known)
        await made(store, "gpu-failed")
        await host.scan("A", "B")

        async def all_made() -> bool:  # The last two may be made in either order.
            return len(await notices(store)) >= 3

        await eventually(all_made)
        found = {one.kind: one for one in await notices(store)}
    assert set(found) == {"gpu-failed", "gpu-recovered", "opened"}
    opened = found["opened"]
    assert [(one.gpu, one.gpu_uuid) for one in opened.violations] == [(0, "A")]


async def test_the_holder_of_a_vanished_card_is_told(store: Store) -> None:
    """The holder of a vanished card is notified with the former index, unless they released it."""
    host = CardHost(store)
    async with telling(store):
        await host.scan("A", "B")
        await host.reserve(ALICE, 0)
        for _ in range(2):
            await host.scan("B")
        host.shorten_missing_timeout(601)
        for _ in range(2):
            await host.scan("B")
        failed, told = await made(store, "gpu-failed", "released")
    assert any("nvidia-smi -L" in row for row in lines(failed))
    assert (told.person, told.reservation and told.reservation.was) == (f"u{ALICE}", (0,))
    assert subject(told).endswith("your reservation of GPU 0 was released: the driver no longer finds it")
