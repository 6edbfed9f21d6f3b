"""What a process is on a reserved GPU: own, presumed, hinted or other; the scripts and status agree."""

import itertools
from typing import Any

import msgspec
import pytest
from support.containers import ALICES, BOBS, in_container, violations
from support.reservations import ALICE, BOB, Lab, process, used

from canhazgpu.config.settings import Settings, Violations
from canhazgpu.events.gpu import Hint, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import OBSERVE, identity_key, user_key
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.status.gpu_status import status
from canhazgpu.service.status.process_ownership import ownership
from canhazgpu.service.storage.policy import AllocationPolicy, this_boot
from canhazgpu.service.storage.snapshot import snapshot

pytestmark = pytest.mark.anyio
NOBODY: dict[str, Any] = {"user": "root", "person": None, "evidence": "unknown"}
NAMELESS: dict[str, Any] = {**NOBODY, "user": "1505433401", "unnamed": True}


EACH = """
local policy, found = cjson.decode(ARGV[1]), {}
for number, pair in ipairs(cjson.decode(ARGV[3])) do
  found[number] = ownership(policy, {disowned = ARGV[2]}, unpack(pair))
end
return found
"""


@pytest.mark.parametrize(
    ("login_uid", "on_it", "wanted"),
    [
        (None, process(ALICE), "own"),
        (None, process(BOB), "other"),
        (None, process(BOB, run="ID"), "own"),
        (None, process(BOB, login_uid=ALICE), "own"),
        (BOB, process(BOB), "own"),
        (BOB, process(1003, login_uid=BOB), "own"),
        (BOB, process(1003), "other"),
        (None, in_container(), "presumed"),
        (None, in_container(hint=ALICES), "presumed"),
        (None, in_container(hint=BOBS), "hinted"),
        (BOB, in_container(hint=BOBS), "presumed"),
        (None, in_container(hint=BOBS, reservation="ID"), "hinted"),
        (None, in_container(hint=ALICES, reservation="ID"), "own"),
        (None, in_container(began_ms=1), "other"),
        (None, in_container(began_ms=2**42), "other"),  # Whatever the time of day is said to be.
        (None, in_container(began_ms=1, start=2**42), "presumed"),
        (None, in_container(began_ms=1, hint=ALICES), "presumed"),
        (None, in_container(began_ms=1, reservation="ID"), "own"),
        (None, in_container(began_ms=2**42, start=2**42), "presumed"),
        (None, in_container(reservation="r1-1"), "hinted"),
        (None, process(0, **NOBODY), "presumed"),
        (None, process(1505433401, **NAMELESS), "other"),
        (BOB, process(1505433401, **NAMELESS, login_uid=BOB), "own"),
        (None, process(1505433401, **NAMELESS, run="ID"), "own"),
        (1505433401, process(1505433401, **NAMELESS), "own"),
        (0, process(0, **NOBODY), "own"),
    ],
)
@pytest.mark.parametrize("presume_holder", [True, False])
async def test_who_is_on_a_gpu_by_right(
    store: Store, login_uid: int | None, on_it: ProcessUse, wanted: str, *, presume_holder: bool
) -> None:
    """Own and presumed use opens no violation, everything else does."""
    lab = Lab(store, presume_holder=presume_holder)
    name = await lab.reserve(login_uid=login_uid)
    on_it = _of(name, on_it)
    wanted = "other" if wanted == "presumed" and not presume_holder else wanted
    for _ in range(2):
        await lab.scan(used(0, on_it))
    opened = await violations(store)
    assert len(opened) == (wanted in {"other", "hinted"})
    assert [one.hint for one in opened] == [on_it.hint] * len(opened)
    assert all(one.kind == "trespass" and one.person == on_it.person for one in opened)
    gpu = status(await snapshot(store), 1.0, presume_holder=presume_holder)[0]
    assert [one["pid"] for one in gpu["presumed"]] == [on_it.pid] * (wanted == "presumed")
    assert [one["pid"] for one in gpu["others"]] == [on_it.pid] * (wanted in {"other", "hinted"})


async def test_scripts_and_status_agree(store: Store) -> None:
    """The scripts and `status` classify every process the same way."""
    script = OBSERVE.text[: OBSERVE.text.index(OBSERVE.body)]
    decide = f"{script}\n{EACH}"
    lab = Lab(store)
    for login_uid in (None, BOB):
        record = await lab.record(
            await lab.reserve(login_uid=login_uid, gpus=(0 if login_uid is None else 1,))
        )
        every = _all(record.id)
        for presume, disowned in itertools.product((True, False), (set(), {"uid:0"})):
            found = await store.redis.eval(
                decide,
                0,
                AllocationPolicy(presume_holder=presume).text_for(None),
                _json(dict.fromkeys(disowned, True)),
                _json([[record, one] for one in every]),
            )
            for one, owner in zip(every, found, strict=True):
                assert owner.decode() == ownership(one, record, disowned, presume_holder=presume), one


@pytest.mark.parametrize("began_ms", [None, 1, 2**42])
@pytest.mark.parametrize(("start", "older"), [(None, None), (1, True), (2**42, False)])
@pytest.mark.parametrize("boot", ["this", "another", None])
async def test_the_clock_of_the_boot_says_what_is_older(
    store: Store, boot: str | None, start: int | None, *, older: bool | None, began_ms: int | None
) -> None:
    """Scripts and `status` compare ticks of one boot; the time of day only for records without them."""
    lab = Lab(store)
    record = await lab.record(await lab.reserve())
    assert (record.boot, record.up is not None) == (this_boot(), True)
    changes: dict[str, Any] = {"this": {}, "another": {"boot": "b"}}.get(
        boot or "", {"boot": None, "up": None}
    )
    record = msgspec.structs.replace(record, **changes)
    one = in_container(start=start, began_ms=began_ms)
    by_boot = start is not None and boot is not None
    before = began_ms is not None and ((boot == "this" and older) if by_boot else began_ms == 1)
    assert ownership(one, record, set(), presume_holder=True) == ("other" if before else "presumed")
    await store.redis.hset(store.keys.reservations, record.id, _json(record))
    kept = f"{record.boot} {record.up}" if record.boot else ""
    await store.redis.hset(store.keys.gpu(0), mapping={"holder_up": kept})
    for _ in range(2):
        await lab.scan(used(0, one))
    assert len(await violations(store)) == before


def _all(name: str) -> list[ProcessUse]:
    uids, logins = (None, 0, ALICE, BOB), (None, ALICE, BOB)
    people, hints = (None, "u1002"), (None, ALICES, BOBS, Hint(user="eve", uid=None, source="its label"))
    claims, runs, began = (None, name, "r1-1"), (None, name), (None, 1, 2**42)
    found = [
        ProcessUse(
            pid=1,
            name="x",
            user="x",
            memory_mb=1,
            uid=uid,
            login_uid=login,
            person=person,
            hint=hint,
            reservation=claim,
            run=run,
            began_ms=began_ms,
        )
        for uid, login, person, hint, claim, run, began_ms in itertools.product(
            uids, logins, people, hints, claims, runs, began
        )
    ]
    unproven = [one for one in found if one.person is None and one.uid == BOB]
    return found + [msgspec.structs.replace(one, unnamed=True) for one in unproven]


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _of(name: str, process: ProcessUse) -> ProcessUse:
    """Put the reservation's id where the table has ID."""
    facts = {field: name for field in ("run", "reservation") if getattr(process, field) == "ID"}
    return msgspec.structs.replace(process, **facts)


async def test_presumed_use_counts_as_used(store: Store) -> None:
    """Presumed use keeps a reservation from being idle."""
    lab = Lab(store, idle_after=3600.0, idle_release=1800.0)
    name = await lab.reserve()
    await lab.later(120)
    await lab.scan(used(0, in_container()))
    assert await lab.published("idle") == []
    assert (await lab.record(name)).idle_ms is None


@pytest.mark.parametrize(("on_it", "stays"), [(in_container(), True), (in_container(hint=BOBS), False)])
async def test_a_detached_container_keeps_its_run(store: Store, on_it: ProcessUse, *, stays: bool) -> None:
    """A run's reservation stays while a container that is presumed to be its own uses the GPU."""
    lab = Lab(store)
    name = await lab.reserve("run")
    await lab.allocator.conclude(name)
    await lab.scan(used(0, on_it))
    assert (name in [one.id for one in await lab.allocator.reservations()]) is stays
    await lab.scan()
    assert await lab.allocator.reservations() == []


async def test_only_the_members_without_a_right_are_in_a_violation(store: Store) -> None:
    """A violation has only the processes without a right, and their memory."""
    lab = Lab(store)
    name = await lab.reserve("run")
    bound, free = process(BOB, run=name), msgspec.structs.replace(process(BOB), pid=77)
    for _ in range(2):
        await lab.scan(used(0, bound, free))
    (one,) = await violations(store)
    assert ([use.pid for use in one.processes], one.memory_mb) == ([77], 900)


async def test_a_person_adopts_what_their_login_started(store: Store) -> None:
    """A user adopts use by another account of the same login, but never a container's."""
    lab = Lab(store)
    await lab.scan(used(0, process(BOB, login_uid=ALICE)), used(1, in_container(hint=ALICES)))
    ask = AllocationRequest(kind="manual", user="u1001", uid=ALICE, count=1, duration_ms=1000)
    reply = await lab.allocator.reserve(ask, "first")
    assert reply.reservation is not None
    assert reply.reservation.gpus == (0,)
    assert (await lab.allocator.reserve(ask, "second")).code == "refused"


def test_the_setting_reaches_the_rules() -> None:
    """violations.presume_holder = false turns presumption off."""
    settings = Settings(host="a", violations=Violations(presume_holder=False))
    assert (AllocationPolicy.of(settings).presume_holder, AllocationPolicy().presume_holder) == (False, True)
    assert (user_key(in_container()), identity_key(in_container())) == (
        "containers",
        "user:root in docker 0123456789ab",
    )


async def test_a_holder_disowns_what_is_presumed(store: Store) -> None:
    """If the holder disowns presumed use, it is a violation without a user, until they undo it."""
    lab = Lab(store)
    await lab.reserve()
    for _ in range(2):
        await lab.scan(used(0, in_container(), process(ALICE)))
    assert await violations(store) == []
    reply = await lab.allocator.disown(ALICE, "once", gpus=None, undo=False)
    assert reply["disowned"] == [{"gpu": 0, "users": ["root in docker 0123456789ab"]}]
    for _ in range(2):
        await lab.scan(used(0, in_container(pid=4343), process(ALICE)))
    (one,) = await violations(store)
    assert (one.kind, one.person, [use.pid for use in one.processes]) == ("trespass", None, [4343])
    assert (await lab.allocator.disown(ALICE, "twice", gpus=(0,), undo=False))["code"] == "none"
    assert (await lab.allocator.disown(ALICE, "back", gpus=(0,), undo=True))["code"] == "disowned"
    await lab.scan(used(0, in_container(pid=4343), process(ALICE)))
    assert await violations(store) == []
    assert [event.data.get("disowned") for event in await lab.published("disowned")] == [
        ["root in docker 0123456789ab"],
        None,
    ]


async def test_only_the_holder_disowns(store: Store) -> None:
    """Only the holder can disown; claims and memory without a process can be disowned too."""
    lab = Lab(store)
    name = await lab.reserve()
    claimed = in_container(reservation=name)
    await lab.scan(used(0, claimed))
    assert (await lab.allocator.disown(BOB, "bob", gpus=(0,), undo=False))["code"] == "not-yours"
    assert (await lab.allocator.disown(BOB, "bob all", gpus=None, undo=False))["code"] == "none"
    assert (await lab.allocator.disown(ALICE, "alice", gpus=(0,), undo=False))["code"] == "disowned"
    for _ in range(2):
        await lab.scan(used(0, claimed))
    assert len(await violations(store)) == 1
    await lab.scan(used(0))
    assert await violations(store) == []
    await lab.allocator.disown(ALICE, "memory", gpus=(0,), undo=False)
    for _ in range(2):
        await lab.scan(used(0))
    assert [one.key for one in await violations(store)] == ["unknown"]


async def test_what_is_disowned_ends_with_the_reservation(store: Store) -> None:
    """Disowning ends with the reservation."""
    lab = Lab(store)
    await lab.reserve()
    await lab.scan(used(0, in_container()))
    await lab.allocator.disown(ALICE, "alice", gpus=(0,), undo=False)
    await lab.scan()
    await lab.allocator.release(ReleaseOrder(uid=ALICE, by="alice", reason="released"), "over")
    await lab.scan()
    await lab.reserve(uid=BOB)
    for _ in range(2):
        await lab.scan(used(0, in_container()))
    assert await violations(store) == []


async def test_containers_are_one_violation_however_many_there_are(store: Store) -> None:
    """All containers without a proven user are one violation, also for short uses."""
    lab = Lab(store)
    boxes = [in_container(pid=number, user=f"root in docker {number:012x}") for number in range(1, 5)]
    await lab.scan(used(0, boxes[0]))
    await lab.scan(used(0, boxes[1]))
    (one,) = await violations(store)
    assert (one.key, one.user) == ("containers", "root in docker 000000000002")
    await lab.scan(used(0, *boxes))
    (more,) = await violations(store)
    assert (more.violation, more.user) == (one.violation, "root in docker 000000000001 and 3 more")
