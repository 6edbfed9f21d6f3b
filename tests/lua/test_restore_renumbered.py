"""A wipe right after the first change since cards changed places, when the journal has the old indices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.reservations.allocator import ReleaseOrder
from canhazgpu.service.reservations.script_replies import Acknowledge
from canhazgpu.service.storage.journal import Journal

pytestmark = pytest.mark.anyio


@pytest.fixture
async def host(store: Store, tmp_path: Path) -> CardHost:
    """Three cards, of which Alice has B and C; Redis is wiped after each script, before its reply is used."""
    host = CardHost(store)
    reconciler = Reconciler(store, Journal(tmp_path / "journal"))
    await reconciler.start()
    await reconciler.sync()
    await host.scan("A", "B", "C")
    host.allocator.begin = reconciler.begin
    await host.reserve(ALICE, 1, 2)
    await reconciler.sync()

    def begin() -> Acknowledge:
        acknowledge = reconciler.begin()

        async def wiped(reply: Mapping[str, Any]) -> bool:
            await store.redis.flushall()
            return await acknowledge(reply)

        return wiped

    await host.scan("C", "B", "A")
    host.allocator.begin = begin
    return host


async def holders(host: CardHost) -> dict[str, int]:
    """Return the holders by UUID after the next scan, which is that of a scanner that noticed the wipe."""
    host.cards.forget()
    await host.scan("C", "B", "A")
    return await host.holders()


async def test_a_grant(host: CardHost) -> None:
    """The holder gets back the card that was granted, not the one that had its index before."""
    assert (await host.reserve(BOB, 2)).code == "granted"
    assert await holders(host) == {"B": ALICE, "C": ALICE, "A": BOB}


async def test_an_extension(host: CardHost) -> None:
    """An extended reservation keeps its cards, and its new end."""
    before = (await host.records()).popitem()[1]
    reply = await host.allocator.extend(ALICE, "more", gpus=None, add_ms=3600_000, most_ms=None)
    assert reply["code"] == "extended"
    assert await holders(host) == {"B": ALICE, "C": ALICE}
    assert (await host.records())[before.id].expires_ms == (before.expires_ms or 0) + 3600_000


async def test_a_release_of_one_of_two_gpus(host: CardHost) -> None:
    """The released card stays released, and the other stays reserved."""
    order = ReleaseOrder(uid=ALICE, by="alice", reason="released", gpus=(0,))
    code, released, _ = await host.allocator.release(order, "less")
    assert (code, [one.gpus for one in released]) == ("released", [(0,)])
    assert await holders(host) == {"B": ALICE}
