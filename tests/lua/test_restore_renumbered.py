"""A wipe right after the first change since cards changed places, when the journal has the old indices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.cards import CardHost
from support.reservations import ALICE, BOB

from canhazgpu.events.gpu import GpuReading
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.reservations.script_replies import Acknowledge
from canhazgpu.service.storage.journal import Journal

pytestmark = pytest.mark.anyio


@pytest.fixture
async def reconciler(store: Store, tmp_path: Path) -> Reconciler:
    """Return the reconciler of an empty host."""
    reconciler = Reconciler(store, Journal(tmp_path / "journal"))
    await reconciler.start()
    await reconciler.sync()
    return reconciler


@pytest.fixture
async def host(store: Store, reconciler: Reconciler) -> CardHost:
    """Three cards that have just changed places; Alice has B and C."""
    host = CardHost(store)
    await host.scan("A", "B", "C")
    host.allocator.begin = reconciler.begin
    await host.reserve(ALICE, 1, 2)
    await reconciler.sync()
    await host.scan("C", "B", "A")
    return host


@pytest.fixture
def wiped(host: CardHost, reconciler: Reconciler) -> CardHost:
    """Let Redis be wiped after each script, before its reply is used."""

    def begin() -> Acknowledge:
        acknowledge = reconciler.begin()

        async def wipe(reply: Mapping[str, Any]) -> bool:
            await host.store.redis.flushall()
            return await acknowledge(reply)

        return wipe

    host.allocator.begin = begin
    return host


async def holders(host: CardHost) -> dict[str, int]:
    """Return the holders by UUID after the next scan, which is that of a scanner that noticed the wipe."""
    host.cards.forget()
    await host.scan("C", "B", "A")
    return await host.holders()


async def test_a_grant(wiped: CardHost) -> None:
    """The holder gets back the card that was granted, not the one that had its index before."""
    assert (await wiped.reserve(BOB, 2)).code == "granted"
    assert await holders(wiped) == {"B": ALICE, "C": ALICE, "A": BOB}


async def test_an_extension(wiped: CardHost) -> None:
    """An extended reservation keeps its cards, and its new end."""
    before = (await wiped.records()).popitem()[1]
    reply = await wiped.allocator.extend(ALICE, "more", gpus=None, add_ms=3600_000, most_ms=None)
    assert reply["code"] == "extended"
    assert await holders(wiped) == {"B": ALICE, "C": ALICE}
    assert (await wiped.records())[before.id].expires_ms == (before.expires_ms or 0) + 3600_000


async def test_a_release_of_one_of_two_gpus(wiped: CardHost) -> None:
    """The released card stays released, and the other stays reserved."""
    order = ReleaseOrder(uid=ALICE, by="alice", reason="released", gpus=(0,))
    code, released, _ = await wiped.allocator.release(order, "less")
    assert (code, [one.gpus for one in released]) == ("released", [(0,)])
    assert await holders(wiped) == {"B": ALICE}


async def test_a_scan_that_moves_the_cards_during_a_restoration(
    host: CardHost, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the cards get other indices after Redis was read, nothing is restored at the former ones."""
    store = host.store
    names: Any = await store.redis.keys("*")
    older: dict[Any, Any] = {name: await store.redis.dump(name) for name in names}
    assert (await host.reserve(BOB, 2)).code == "granted"
    await store.redis.flushall()
    for name, text in older.items():
        await store.redis.restore(name, 0, text)
    repair, moved = store.repair, list[dict[int, int]]()

    async def late(*words: Any) -> Any:
        if not moved:
            order = enumerate(("B", "A", "C"))
            await host.cards.settle([GpuReading(index=at, uuid=name, name=name) for at, name in order], 0)
            moved.append(host.cards.moved)
        return await repair(*words)

    monkeypatch.setattr(store, "repair", late)
    await reconciler.sync()
    assert moved[0] == {0: 2, 1: 0, 2: 1}
    assert await host.holders() == {"B": ALICE, "C": ALICE, "A": BOB}
