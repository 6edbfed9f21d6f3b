"""MIG instances that the driver does not list, because their card is lost or the host has just started."""

import pytest
from support.mig import Division, MigHost
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio
TWO = {0: {0: "1g.10gb", 1: "3g.40gb"}}


@pytest.fixture
async def host(store: Store) -> MigHost:
    """A host with a divided card, GPU 0, and a whole one."""
    made = MigHost(store)
    await made.look(TWO)
    return made


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_card_that_cannot_be_read_keeps_its_instances_for_as_long_as_that_takes(
    host: MigHost, *, restarts: bool
) -> None:
    """The missing timeout is for GPUs that are not listed; after it, the card says what there is."""
    await host.take(ALICE, "0:0")
    if restarts:
        host.restart()
    await host.look({}, broken=0)
    assert (await host.by_uuid())["MIG-0-0-1g.10gb"].usage.reason == "GPU is lost"
    host.shorten_missing_timeout(600)
    for _ in range(2):
        await host.look({}, broken=0)
    assert await host.held() == {"0:0": ALICE}
    await host.look({})
    assert await host.held() == {"0:0": ALICE}
    await host.look(TWO)
    assert not await host.published("reservation.released")


async def test_a_lost_card_keeps_its_instances_where_it_is(host: MigHost) -> None:
    """Another card has its index, and is not divided; when the card is back, so are its instances."""
    await host.take(ALICE, "0:1")
    for _ in range(3):
        await host.scan("GPU-1")
    assert await host.held() == {"1:1": ALICE}
    assert await host.take(BOB, "0") == "granted"
    await host.look(TWO)
    assert await host.held() == {"0:1": ALICE, "1": BOB}
    assert not await host.published("reservation.released")


@pytest.mark.parametrize("left", [{}, {0: {3: "1g.10gb"}}])
async def test_instances_that_do_not_exist_yet_after_a_start(host: MigHost, left: Division) -> None:
    """The first scan does not find them: those that somebody holds wait as long as a card that is missing."""
    await host.take(ALICE, "0:1")
    host.restart()
    for _ in range(3):
        await host.look(left)
    assert await host.held() == {"0:1": ALICE}
    assert "MIG-0-0-1g.10gb" not in await host.by_uuid()
    await host.look(TWO)
    for _ in range(2):
        await host.look({0: {0: "1g.10gb"}})
    assert await host.held() == {}


async def test_instances_that_a_start_does_not_bring_back(host: MigHost) -> None:
    """After the missing timeout, their reservations end."""
    await host.take(ALICE, "0:1")
    host.restart()
    await host.look({})
    host.shorten_missing_timeout(600)
    await host.look({})
    assert await host.held() == {}
