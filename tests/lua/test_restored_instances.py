"""`restore` with MIG instances: who holds a card holds its instances, also those that are new."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.mig import MigHost, at
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.storage.journal import Journal, State

pytestmark = pytest.mark.anyio
TWO = {0: {0: "1g.10gb", 1: "3g.40gb"}}
THREE = {0: {**TWO[0], 2: "1g.10gb"}}


@pytest.fixture
async def host(store: Store, tmp_path: Path) -> MigHost:
    """A host with a journal, a divided card, GPU 0, and a whole one."""
    made = MigHost(store)
    reconciler = Reconciler(store, Journal(tmp_path / "journal"))
    await reconciler.start()
    await reconciler.sync()
    made.allocator.begin = reconciler.begin
    await made.look(TWO)
    return made


async def look_again(host: MigHost, division: dict[int, dict[int, str]]) -> None:
    """Scan after Redis has lost its data: the first scan finds that out."""
    try:
        await host.look(division)
    except StoreDown:
        host.cards.forget()
    for _ in range(2):
        await host.look(division)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_card_that_gets_an_instance_while_redis_loses_its_data(
    host: MigHost, *, restarts: bool
) -> None:
    """Its holder has the new instance as well, whether or not the same service goes on."""
    await host.take(ALICE, "0")
    await host.store.redis.flushall()
    if restarts:
        host.restart()
    await look_again(host, THREE)
    assert await host.held() == dict.fromkeys(("0", "0:0", "0:1", "0:2"), ALICE)
    assert await host.take(BOB, "0:2") == "refused"


async def promise_to_two(host: MigHost, first: str, second: str) -> None:
    """Restore what ALICE was promised after another service has given a part of it to BOB."""
    await host.take(ALICE, first)
    fencing_token = host.store.fencing_token
    await host.store.redis.flushall()
    host.store.fencing_token = None
    other = MigHost(host.store)
    await other.look(TWO)
    assert await other.take(BOB, second) == "granted"
    host.store.fencing_token = fencing_token
    host.cards.forget()
    await look_again(host, TWO)


async def test_who_loses_an_instance_loses_the_card(host: MigHost) -> None:
    """BOB's card was not acknowledged; he keeps the instance that ALICE was not promised."""
    await promise_to_two(host, "0:1", "0")
    assert await host.held() == {"0:0": BOB, "0:1": ALICE}


async def test_who_was_promised_the_card_has_its_instances(host: MigHost) -> None:
    """BOB's instance was not acknowledged."""
    await promise_to_two(host, "0", "0:1")
    assert await host.held() == dict.fromkeys(("0", "0:0", "0:1"), ALICE)


@pytest.mark.parametrize("kind", ["manual", "run"])
async def test_two_were_promised_a_card_and_an_instance(host: MigHost, tmp_path: Path, kind: str) -> None:
    """Its holder keeps the instance, and nobody has the card; a run that lives gets all of the card."""
    await host.take(BOB, "0:1")
    (held,) = (await host.records()).values()
    whole = (0, at("0:0"), at("0:1"))
    lost = msgspec.structs.replace(
        held, id="r99-99", kind=kind, user="u1001", uid=ALICE, gpus=whole, pid=1, start=0
    )
    data: Any = await host.store.redis.hget(host.store.keys.scan, "dataset")
    journal = Journal(tmp_path / "another journal")
    journal.write(State(dataset=data.decode(), records={one.id: one for one in (held, lost)}))
    reconciler = Reconciler(host.store, journal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("canhazgpu.service.recovery.reconciliation.is_process_alive", lambda _: True)
        await reconciler.start()
        await reconciler.sync()
    expected = {"0:0": ALICE, "0:1": BOB} if kind == "manual" else dict.fromkeys(("0", "0:0", "0:1"), ALICE)
    assert await host.held() == expected
