"""Idle reservations: only the holder's own use counts, unknown use is not idle, events come once."""

from typing import Any

import pytest
from support.reservations import ALICE, BOB, Lab, process, unused, used

from canhazgpu.events.gpu import GpuUsage, Hint, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.releases import ReleaseOrder

pytestmark = pytest.mark.anyio
NOTICES: dict[str, Any] = {"idle_after": 3600.0, "idle_release": 1800.0}  # An hour, then half an hour.


@pytest.fixture
def lab(store: Store) -> Lab:
    """A host where idle reservations are reported and released."""
    return Lab(store, **NOTICES)


async def idle(lab: Lab, name: str, minutes: float = 61) -> None:
    """Let time pass without use, with scans."""
    await lab.later(minutes)
    await lab.scan()
    assert (await lab.record(name)).idle_told_ms is not None


async def test_without_the_setting_nothing_is_kept_and_nothing_is_written(store: Store) -> None:
    """If `idle_after` is 0, records have no idle fields and scans write none."""
    lab = Lab(store)
    name = await lab.reserve()
    await lab.later(600)
    before = await lab.writes()
    for _ in range(3):
        await lab.scan()
    assert await lab.writes() == before
    assert b"idle" not in before[1][name.encode()]


async def test_it_is_told_once_with_its_beginning_and_its_deadline(lab: Lab) -> None:
    """An idle reservation is reported once, with its start and its deadline."""
    name = await lab.reserve()
    await lab.later(59)
    await lab.scan()
    assert await lab.published("idle") == []
    await lab.later(2)
    await lab.scan()
    (event,) = await lab.published("idle")
    record = await lab.record(name)
    assert event.data["idle"] == event.data["started"]
    assert record.idle_told_ms is not None
    assert record.idle_until_ms == record.idle_told_ms + 1800_000
    assert event.data["deadline"] > event.time
    before = await lab.writes()
    await lab.store.redis.script_flush()
    for _ in range(5):
        await lab.scan()
    assert await lab.writes() == before


@pytest.mark.parametrize(("kind", "release"), [("run", 1800.0), ("manual", 0.0)])
async def test_what_is_not_released_has_no_deadline(store: Store, kind: str, release: float) -> None:
    """Runs are not released, and without the setting nothing is: the event has no deadline."""
    lab = Lab(store, idle_after=3600.0, idle_release=release)
    name = await lab.reserve(kind)
    await idle(lab, name)
    assert "deadline" not in (await lab.published("idle"))[0].data
    await idle(lab, name, 6000 if kind == "run" else 100)
    assert await lab.published("released") == []


async def test_at_the_deadline_it_is_released_in_the_same_step(lab: Lab) -> None:
    """At the deadline, the reservation is released for the reason idle, and the queue is served."""
    name = await lab.reserve()
    await idle(lab, name)
    await lab.later(29)
    await lab.scan()
    assert await lab.published("released") == []
    ask = AllocationRequest(kind="manual", user="u1002", uid=BOB, gpus=(0,), duration_ms=1000, wait=True)
    assert (await lab.allocator.reserve(ask, "bob")).code == "queued"
    await lab.later(2)
    await lab.scan()
    (event,) = await lab.published("released")
    assert (event.subject, event.data["reason"]) == (f"reservation/{name}", "idle")
    assert event.data["idle"] == event.data["started"]  # By now; it never was used.
    assert (await lab.scan()).granted != ()


async def test_who_gives_it_back_in_time_is_not_told_since_when(lab: Lab) -> None:
    """If the holder releases an idle reservation, the event has no idle time."""
    name = await lab.reserve()
    await idle(lab, name)
    order = ReleaseOrder(uid=ALICE, by="u1001", reason="released", gpus=(0,))
    assert (await lab.allocator.release(order, "give it back"))[0] == "released"
    (event,) = await lab.published("released")
    assert (event.data["reason"], event.data.get("idle")) == ("released", None)


async def test_use_ends_it_and_is_told_to_who_was_told(lab: Lab) -> None:
    """Use ends the idle time, and an event says so if idleness was reported."""
    name = await lab.reserve()
    await lab.scan(used(0, process(ALICE)))
    assert await lab.published("used") == []  # Nobody was told of anything.
    assert (await lab.record(name)).idle_ms is None
    await lab.scan()
    since = (await lab.record(name)).idle_ms
    assert since is not None
    assert since >= (await lab.record(name)).started_ms
    await idle(lab, name)
    await lab.scan(used(0, process(ALICE)))
    assert [event.subject for event in await lab.published("used")] == [f"reservation/{name}"]
    record = await lab.record(name)
    assert (record.idle_ms, record.idle_told_ms, record.idle_until_ms) == (None, None, None)
    await lab.scan()
    await idle(lab, name)
    assert len(await lab.published("idle")) == 2


CLAIM = {"user": "root", "person": None, "evidence": "unknown"}


ONE_LOGIN = [
    (0, ALICE, process(ALICE), True),  # sudo canhazgpu reserve
    (0, ALICE, process(ALICE, login_uid=ALICE, evidence="loginuid"), True),
    (
        ALICE,
        None,
        process(998, person="u1001", login_uid=ALICE, evidence="loginuid"),
        True,
    ),  # sudo -u service
    (0, ALICE, process(BOB), False),
    (ALICE, None, process(BOB, login_uid=BOB), False),
]


@pytest.mark.parametrize("where", [0, 1])
async def test_use_of_any_of_its_gpus_is_use(lab: Lab, where: int) -> None:
    """Use of one of its GPUs is enough."""
    name = await lab.reserve(gpus=(0, 1))
    await lab.later(61)
    await lab.scan(used(where, process(ALICE)))
    assert (await lab.record(name)).idle_ms is None
    assert await lab.published("idle") == []


@pytest.mark.parametrize(("uid", "login_uid", "on_it", "is_use"), ONE_LOGIN)
async def test_holder_and_user_are_compared_as_one_identity(
    lab: Lab, uid: int, login_uid: int | None, on_it: ProcessUse, *, is_use: bool
) -> None:
    """What somebody reserves with sudo is used by their own processes, and the other way round."""
    name = await lab.reserve(uid=uid, login_uid=login_uid)
    await idle(lab, name)
    await lab.scan(used(0, on_it))
    assert len(await lab.published("used")) == is_use


async def test_what_claims_to_belong_to_it_is_its_users(lab: Lab) -> None:
    """A container's process that claims the reservation counts as the holder's use."""
    name = await lab.reserve()
    await idle(lab, name)
    await lab.scan(used(0, process(0, **CLAIM, reservation=name)))
    assert len(await lab.published("used")) == 1


async def test_what_is_exempt_is_use_all_the_same(lab: Lab) -> None:
    """An exempt process of the holder counts as use."""
    name = await lab.reserve()
    await lab.scan(unused(0, exempt=(process(ALICE),)))
    assert (await lab.record(name)).idle_ms is None


async def test_somebody_elses_use_is_none(lab: Lab) -> None:
    """Use by another user does not count as the holder's."""
    name = await lab.reserve()
    await lab.later(61)
    await lab.scan(used(0, process(BOB)))
    assert (await lab.record(name)).idle_told_ms is not None


BOBS = Hint(user="bob", uid=BOB, source='container "train" has /home/bob mounted')
UNKNOWN = [
    unused(0, "error", reason="GPU is lost"),
    unused(0, "unknown", reason="Timeout"),
    used(0),
    used(0, process(0, **CLAIM, hint=BOBS)),
    used(0, process(0, **CLAIM, reservation="r1-1")),
    used(0, process(BOB), process(0, **CLAIM, hint=BOBS)),
]
IDS = ["error", "unknown", "memory", "nobody's", "another's", "beside"]


@pytest.mark.parametrize("usage", UNKNOWN, ids=IDS)
async def test_what_is_unknown_is_never_idle(lab: Lab, usage: GpuUsage) -> None:
    """Unknown use is never idle, and the idle time starts after it."""
    name = await lab.reserve()
    await lab.later(120)
    await lab.scan(usage)
    await lab.later(120)
    await lab.scan(usage)
    assert await lab.published("idle") == []
    await lab.scan()
    assert await lab.published("idle") == []
    assert (await lab.record(name)).idle_ms is not None


@pytest.mark.parametrize("usage", UNKNOWN, ids=IDS)
async def test_who_was_told_is_not_told_again_after_what_is_unknown(lab: Lab, usage: GpuUsage) -> None:
    """After unknown use there is no second event, and the whole time until the release starts again."""
    name = await lab.reserve()
    await idle(lab, name)
    await lab.scan(usage)
    await lab.later(60)
    await lab.scan(usage)
    await lab.scan()
    await lab.later(29)
    await lab.scan()
    assert await lab.published("released", "used") == []
    await lab.later(2)
    await lab.scan()
    assert len(await lab.published("idle")) == 1
    assert [event.data["reason"] for event in await lab.published("released")] == ["idle"]


async def test_a_gap_between_two_scans_is_unknown(lab: Lab) -> None:
    """A gap between two scans counts as unknown use."""
    name = await lab.reserve()
    await lab.later(50)
    await lab.store.redis.hincrby(lab.store.keys.scan, "at_ms", -16_000)
    await lab.scan()
    await lab.later(50)
    await lab.scan()
    assert await lab.published("idle") == []
    await idle(lab, name, 11)


async def test_what_has_ended_is_not_idle(lab: Lab) -> None:
    """A run that has ended is not reported."""
    name = await lab.reserve("run")
    await lab.allocator.conclude(name)
    await lab.later(61)
    await lab.scan(unused(0, "unknown", reason="Timeout"))
    assert await lab.published("idle") == []


async def test_a_release_that_is_new_in_the_settings_is_announced_first(store: Store) -> None:
    """If a release is newly configured, an event announces it before it happens."""
    before = Lab(store, idle_after=3600.0)
    name = await before.reserve()
    await idle(before, name, 300)
    after = Lab(store, **NOTICES)
    await after.scan()
    assert await after.published("released") == []
    shown: list[Any] = [event.data.get("deadline") for event in await after.published("idle")]
    assert (shown[0], shown[1] is not None, len(shown)) == (None, True, 2)


async def test_what_is_turned_off_is_forgotten(lab: Lab) -> None:
    """If the setting is turned off, records lose their idle fields."""
    name = await lab.reserve()
    await idle(lab, name)
    after = Lab(lab.store)
    await after.scan()
    assert await after.published("used", "released") == []
    record = await after.record(name)
    assert (record.idle_ms, record.idle_told_ms, record.idle_until_ms) == (None, None, None)


@pytest.mark.parametrize("text", ["junk", "[]", '{"id":1,"idle_ms":3}'])
async def test_an_unreadable_reservation_stops_no_scan(lab: Lab, text: str) -> None:
    """What cannot be read is left to its user and administrators; others are reported as ever."""
    mine = await lab.reserve()
    await lab.later(61)
    await lab.store.redis.hset(lab.store.keys.reservations, "unreadable", text)
    await lab.scan()
    assert [event.data["id"] for event in await lab.published("idle")] == [mine]
