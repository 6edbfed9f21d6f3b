"""MIG instances in the scripts: each is a GPU, and who holds a card holds its instances."""

from typing import Any

import msgspec
import pytest
from support.mig import MigHost, at
from support.reservations import ALICE, BOB

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio
TWO = {0: {0: "1g.10gb", 1: "3g.40gb"}}
CAROL = BOB + 1


@pytest.fixture
async def host(store: Store) -> MigHost:
    """A host with a divided card, GPU 0, and a whole one."""
    made = MigHost(store)
    await made.look(TWO)
    return made


async def release(host: MigHost, uid: int, *names: str) -> str:
    """Release GPUs; return the code of the answer."""
    order = ReleaseOrder(uid=uid, by="x", reason="released", gpus=tuple(map(at, names)))
    return (await host.allocator.release(order, f"release-{uid}-{names}"))[0]


async def test_an_instance_is_reserved_like_a_gpu(host: MigHost) -> None:
    """Two users have an instance of the same card each, and nobody has one twice."""
    assert await host.take(ALICE, "0:0") == "granted"
    assert await host.take(BOB, "0:1") == "granted"
    assert await host.take(CAROL, "0:0") == "refused"
    assert await host.held() == {"0:0": ALICE, "0:1": BOB}


async def test_a_number_of_gpus_is_of_whole_ones(host: MigHost) -> None:
    """`--gpus 1` takes the card that is not divided, and never an instance."""
    assert (await host.reserve(ALICE, count=2)).code == "never"
    assert (await host.reserve(ALICE, count=1)).code == "granted"
    refused = await host.reserve(BOB, count=1)
    assert (refused.code, refused.counts) == ("refused", {"available": 0, "held": 1})
    assert await host.held() == {"1": ALICE}


async def test_who_holds_a_card_holds_its_instances(host: MigHost) -> None:
    """Nobody gets an instance of a card that somebody holds, and the event names all of it."""
    assert await host.take(ALICE, "0") == "granted"
    assert await host.held() == {"0": ALICE, "0:0": ALICE, "0:1": ALICE}
    assert await host.take(BOB, "0:1") == "refused"
    (created,) = await host.published("reservation.created")
    assert created.data["gpus"] == [0, at("0:0"), at("0:1")]
    assert created.data["uuids"] == ["GPU-0", "MIG-0-0-1g.10gb", "MIG-0-1-3g.40gb"]


async def test_nobody_has_a_card_while_somebody_has_an_instance(host: MigHost) -> None:
    """The refusal names the instance and its holder."""
    await host.take(BOB, "0:1")
    refused = await host.reserve(ALICE, 0, 1)
    assert refused.code == "refused"
    assert [(one.gpu, one.why, one.by) for one in refused.blocked] == [(at("0:1"), "held", "u1002")]
    host.uses["MIG-0-0-1g.10gb"] = [CAROL]
    await host.look(TWO)
    await release(host, BOB, "0:1")
    await host.look(TWO)
    refused = await host.reserve(ALICE, 0)
    assert [(one.gpu, one.why, one.users) for one in refused.blocked] == [(at("0:0"), "in_use", ("u1003",))]


async def test_releasing_a_card_releases_its_instances(host: MigHost) -> None:
    """An instance that is released is free; then the card is not held as a whole any more."""
    await host.take(ALICE, "0")
    assert await release(host, ALICE, "0:1") == "released"
    assert await host.held() == {"0:0": ALICE}
    await release(host, ALICE, "0:0")
    await host.look(TWO)
    await host.take(ALICE, "0")
    assert await release(host, ALICE, "0") == "released"
    assert await host.held() == {}


@pytest.mark.parametrize("profile", ["1g.10gb", "3g.40gb"])
async def test_instances_of_a_profile(host: MigHost, profile: str) -> None:
    """`--mig PROFILE` takes an instance of this profile, and says never if there are too few."""
    assert (await host.reserve(ALICE, count=2, profile=profile)).code == "never"
    assert (await host.reserve(ALICE, count=1, profile=profile)).code == "granted"
    assert await host.held() == {"0:0" if profile == "1g.10gb" else "0:1": ALICE}
    refused = await host.reserve(BOB, count=1, profile=profile)
    assert (refused.code, refused.counts) == ("refused", {"available": 0, "held": 1})


async def test_a_waiting_request_for_a_card_claims_its_instances(host: MigHost) -> None:
    """Whoever waits for the card gets it before those who came later and ask for an instance."""
    await host.take(BOB, "0:1", "1")
    waiting = await host.reserve(ALICE, 0, 1, wait=True)
    assert waiting.code == "queued"
    await host.look({0: {0: "1g.10gb", 1: "3g.40gb"}, 1: {}})
    await release(host, BOB, "0:1")
    await host.look(TWO)
    assert await host.take(CAROL, "0:0") == "refused"
    await release(host, BOB, "1")
    await host.look(TWO)
    assert await host.held() == {"0": ALICE, "0:0": ALICE, "0:1": ALICE, "1": ALICE}


async def test_a_waiting_request_for_an_instance_claims_its_card(host: MigHost) -> None:
    """Nobody who came later gets the card of an instance that somebody waits for."""
    await host.take(BOB, "1")
    waiting = await host.reserve(ALICE, 1, at("0:0"), wait=True)
    assert waiting.code == "queued"
    refused = await host.reserve(CAROL, 0)
    assert [(one.gpu, one.why) for one in refused.blocked] == [(at("0:0"), "claimed")]
    assert await host.take(CAROL, "0:1") == "granted"


async def test_a_limit_counts_a_card_once(host: MigHost) -> None:
    """A card with its instances is one GPU, and an instance is one."""
    assert (await host.reserve(ALICE, 0, limit=2)).code == "granted"
    assert (await host.reserve(ALICE, 1, limit=1)).code == "limit"
    assert (await host.reserve(ALICE, 1, limit=2)).code == "granted"


async def test_draining_a_card_drains_its_instances(host: MigHost) -> None:
    """Also those that it gets later; one of them can be made available again."""
    await host.drain(0)
    assert await host.take(ALICE, "0:1") == "refused"
    await host.look({0: {**TWO[0], 2: "1g.10gb"}})
    assert {
        name: one.drained for name, one in (await host.by_uuid()).items() if one.drained
    } == dict.fromkeys(("GPU-0", "MIG-0-0-1g.10gb", "MIG-0-1-3g.40gb", "MIG-0-2-1g.10gb"), "noisy fan")
    await host.drain(at("0:2"), None)
    assert await host.take(ALICE, "0:2") == "granted"
    assert await host.take(ALICE, "0:0") == "refused"


async def test_an_instance_that_is_gone_ends_its_reservation(host: MigHost) -> None:
    """After two scans of the card without it; the others stay, and a new one is free."""
    await host.take(ALICE, "0:0")
    await host.take(BOB, "0:1")
    await host.look({0: {1: "3g.40gb", 2: "2g.20gb"}})
    assert await host.held() == {"0:0": ALICE, "0:1": BOB}
    await host.look({0: {1: "3g.40gb", 2: "2g.20gb"}})
    assert await host.held() == {"0:1": BOB}
    (released,) = await host.published("reservation.released")
    assert (released.data["user"], released.data["reason"], released.data["gpus"]) == (
        "u1001",
        "vanished",
        [at("0:0")],
    )
    (removed,) = await host.published("gpu.removed")
    assert removed.data["reason"] == "no longer an instance of its GPU"
    assert await host.take(CAROL, "0:2") == "granted"


async def test_a_card_that_cannot_be_read_keeps_its_instances(host: MigHost) -> None:
    """Instances that are not listed because their card fails are missing, not gone."""
    await host.take(ALICE, "0:0")
    for _ in range(3):
        await host.look({}, broken=0)
    assert await host.held() == {"0:0": ALICE}
    await host.look(TWO)
    await host.look(TWO)
    assert await host.held() == {"0:0": ALICE}
    assert not await host.published("reservation.released")


async def test_another_instance_at_the_same_place_is_another(host: MigHost) -> None:
    """The card is divided anew: the number is the same, the UUID is not, and nothing is inherited."""
    await host.take(ALICE, "0:0")
    await host.look({0: {0: "2g.20gb"}})
    await host.look({0: {0: "2g.20gb"}})
    assert await host.held() == {}
    assert sorted(await host.by_uuid()) == ["GPU-0", "GPU-1", "MIG-0-0-2g.20gb"]
    assert await host.take(BOB, "0:0") == "granted"


async def test_mig_is_turned_on_under_a_reservation(host: MigHost) -> None:
    """The holder of the card gets its new instances, and an event says so."""
    await host.take(ALICE, "1")
    await host.look({**TWO, 1: {0: "7g.80gb"}})
    assert await host.held() == {"1": ALICE, "1:0": ALICE}
    (widened,) = await host.published("reservation.widened")
    assert (widened.data["gpus"], widened.data["joined"], widened.data["uuids"]) == (
        [1, at("1:0")],
        [at("1:0")],
        ["MIG-1-0-7g.80gb"],
    )
    assert await host.take(BOB, "1:0") == "refused"
    host.uses["MIG-1-0-7g.80gb"] = [ALICE]
    for _ in range(3):
        await host.look({**TWO, 1: {0: "7g.80gb"}})
    assert await host.violating_uids() == {}


async def test_the_holder_of_a_card_divides_it_anew(host: MigHost) -> None:
    """The card stays reserved, with the instances that there are."""
    await host.take(ALICE, "0")
    for _ in range(2):
        await host.look({0: {4: "4g.40gb"}})
    assert await host.held() == {"0": ALICE, "0:4": ALICE}


async def test_mig_is_turned_off(host: MigHost) -> None:
    """The reservations of instances end, and the card is a whole GPU again."""
    await host.take(ALICE, "0:0")
    await host.look({})
    assert (await host.reserve(BOB, count=2)).code == "never"
    await host.look({})
    assert await host.held() == {}
    assert (await host.reserve(BOB, count=2)).code == "granted"


async def test_who_waits_for_an_instance_that_is_gone_waits_no_more(host: MigHost) -> None:
    """A named instance, or one of a profile that is left too seldom, cannot become free."""
    await host.take(BOB, "0:0", "0:1")
    await host.reserve(ALICE, at("0:0"), wait=True)
    await host.reserve(ALICE, count=1, profile="1g.10gb", wait=True)
    await host.reserve(ALICE, count=1, profile="3g.40gb", wait=True)
    for _ in range(2):
        await host.look({0: {1: "3g.40gb"}})
    left = await host.published("request.left")
    assert [one.data["reason"] for one in left] == ["impossible", "impossible"]
    assert [one.profile for one in await host.allocator.waiting()] == ["3g.40gb"]


@pytest.mark.parametrize("restarts", [False, True])
async def test_who_waits_for_more_whole_gpus_than_are_left_waits_no_more(
    host: MigHost, *, restarts: bool
) -> None:
    """MIG is turned on: those who still can be served keep their places, also if the service begins anew."""
    await host.look({})
    await host.look({})
    await host.take(BOB, "1")
    await host.reserve(ALICE, count=2, wait=True)
    await host.reserve(ALICE, count=1, wait=True)
    if restarts:
        host.restart()
    await host.drain(0)
    await host.look(TWO)
    (left,) = await host.published("request.left")
    assert (left.data["count"], left.data["reason"]) == (2, "impossible")
    assert [one.count for one in await host.allocator.waiting()] == [1]


async def test_a_violation_names_the_instance(host: MigHost) -> None:
    """Use of an instance that somebody else holds is a violation on it, and on nothing else."""
    await host.take(ALICE, "0:0")
    host.uses["MIG-0-0-1g.10gb"] = [BOB]
    host.uses["MIG-0-1-3g.40gb"] = [CAROL]
    for _ in range(3):
        await host.look(TWO)
    assert await host.violating_uids() == {"MIG-0-0-1g.10gb": [BOB], "MIG-0-1-3g.40gb": [CAROL]}
    opened = await host.published("violation.opened")
    assert sorted((one.data["gpu"], one.data["kind"]) for one in opened) == [
        (at("0:0"), "trespass"),
        (at("0:1"), "unreserved"),
    ]


async def test_reports_count_instances_and_not_their_card(host: MigHost) -> None:
    """The log of use has a level of its own for a divided card; its instances are logged like GPUs."""
    await host.take(ALICE, "0")
    host.uses["MIG-0-1-3g.40gb"] = [ALICE]
    await host.look(TWO)
    rows: Any = await host.store.redis.hgetall(host.store.keys.usage)
    last = {
        name.decode().rpartition("/")[2]: msgspec.json.decode(b"[" + text + b"]")[-1][1:]
        for name, text in rows.items()
        if name.startswith(b"log/")
    }
    assert last == {
        "GPU-0": ["divided", -1],
        "GPU-1": ["free", -1],
        "MIG-0-0-1g.10gb": ["free", ALICE],
        "MIG-0-1-3g.40gb": ["busy", ALICE, f"uid:{ALICE}"],
    }
