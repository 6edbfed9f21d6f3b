"""The scripts of silences on a real Redis: silences end, and an episode is acknowledged once."""

from datetime import datetime
from typing import Any

import anyio
import msgspec
import pytest
from support.eventually import eventually
from support.reservations import ALICE, BOB, Lab, process, used

from canhazgpu.events.envelope import decode
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.silences import Silence
from canhazgpu.service.silences.lifecycle import Draft, Silenced, Silences

pytestmark = pytest.mark.anyio
HOUR = 3600.0
HERS, HIS = used(0, process(ALICE)), used(1, process(BOB))


@pytest.fixture
async def silences(store: Store) -> Silences:
    """A host where alice and bob each use a GPU without a reservation."""
    await see(store, HERS, HIS)
    return Silences(store)


async def see(store: Store, *usages: GpuUsage) -> None:
    """Store two scans, which confirm the violations."""
    lab = Lab(store)
    await lab.scan(*usages)
    await anyio.sleep(0.002)
    await lab.scan(*usages)


async def told(store: Store) -> list[tuple[str, Silence]]:
    """Return the events about silences, with their data."""
    rows: Any = await store.redis.xrange(store.keys.events)
    events = [decode(fields) for _, fields in rows]
    return [
        (event.type.rpartition(".")[2], msgspec.convert(event.data, Silence, strict=True))
        for event in events
        if event.type.startswith("canhazgpu.silence.")
    ]


async def live(store: Store) -> dict[str, Silence]:
    """Return the silences in Redis."""
    rows: Any = await store.redis.hgetall(store.keys.silences)
    return {name.decode(): msgspec.json.decode(text, type=Silence) for name, text in rows.items()}


async def add(silences: Silences, operation: str = "one", lasts: float = HOUR, **what: Any) -> Silence:
    """Add an administrator's silence."""
    draft = Draft(by="root", by_uid=0, reason="why", **(what or {"gpu": 0}))
    done = await silences.silence(draft, operation, lasts=lasts, ack_max=0)
    assert done.code == "added"
    assert done.silence is not None
    return done.silence


async def ack(
    silences: Silences,
    operation: str = "one",
    *,
    uid: int = ALICE,
    lasts: float = HOUR,
    ack_max: float = HOUR,
) -> Silenced:
    """Add a user's acknowledgement."""
    draft = Draft(by=f"u{uid}", by_uid=uid, reason="known", user=f"u{uid}", ack=True)
    return await silences.silence(draft, operation, lasts=lasts, ack_max=ack_max)


async def end(
    silences: Silences, name: str, *, uid: int = 0, admin: bool = True, operation: str = "x"
) -> str:
    """End a silence early; return the code."""
    return (await silences.unsilence(name, operation, uid=uid, by=f"u{uid}", admin=admin)).code


async def test_a_silence_is_kept_and_told_as_it_is(store: Store, silences: Silences) -> None:
    """The event, the stored silence and the answer are equal, with times of Redis' clock."""
    before: Any = await store.redis.time()
    made = await add(silences, user="bob", process="python3")
    assert await told(store) == [("added", made)]
    assert await live(store) == {made.id: made}
    after: Any = await store.redis.time()
    assert before[0] <= made.until_ms / 1000 - HOUR <= after[0] + 1
    assert made.until > made.since
    assert (made.user, made.process, made.gpu, made.ack) == ("bob", "python3", None, False)


async def test_a_repeat_gives_the_same_and_does_nothing(store: Store, silences: Silences) -> None:
    """Repeating an operation returns the same answer, also after the scripts were flushed."""
    first = await add(silences)
    known = await ack(silences)
    await store.redis.script_flush()
    assert await add(silences) == first
    assert await ack(silences) == known
    assert len(await told(store)) == 2
    assert await end(silences, first.id) == "ended"
    await store.redis.script_flush()
    assert await end(silences, first.id) == "ended"
    assert await end(silences, first.id, operation="y") == "none"
    assert [verb for verb, _ in await told(store)] == ["added", "added", "ended"]


async def test_by_hand_says_who(store: Store, silences: Silences) -> None:
    """The event of an early end has its time and its author, and the silence is removed."""
    made = await add(silences)
    assert await end(silences, made.id) == "ended"
    ended = (await told(store))[-1][1]
    assert (ended.ended_by, ended.id) == ("u0", made.id)
    assert ended.ended is not None
    assert made.since <= ended.ended < made.until
    assert await live(store) == {}


async def test_each_ends_at_its_moment(store: Store, silences: Silences) -> None:
    """The loop ends each silence at its time, wakes up for new ones, and survives flushed scripts."""

    async def all_over() -> bool:
        return len(await told(store)) == 14

    async with anyio.create_task_group() as tasks:
        await tasks.start(silences.run)
        for number in range(6):
            await add(silences, f"long {number}", lasts=2.0 + number / 1000)
        await add(silences, "short", lasts=0.3)
        await store.redis.script_flush()
        await eventually(all_over, 30)
        tasks.cancel_scope.cancel()
    rows: Any = await store.redis.xrange(store.keys.events)
    moments = {
        event.data["until"]: event.time
        for event in (decode(fields) for _, fields in rows)
        if event.type.endswith("silence.ended")
    }
    assert len(moments) == 7
    for until, moment in moments.items():
        late = datetime.fromisoformat(moment) - datetime.fromisoformat(until)
        assert 0 <= late.total_seconds() < 10
    assert {one.ended for verb, one in await told(store) if verb == "ended"} == set(moments)


async def test_an_acknowledgement_needs_a_violation_of_ones_own(store: Store, silences: Silences) -> None:
    """An acknowledgement needs an open violation that is proven to be the user's."""
    assert (await ack(silences, uid=1003)).code == "none"
    claimed = process(0, user="u1003", person=None, evidence="label")
    await see(store, used(0, claimed), HIS)
    assert (await ack(silences, "two", uid=1003)).code == "none"
    assert (await ack(silences, uid=ALICE)).code == "none"
    assert (await ack(silences, uid=BOB)).code == "added"
    assert [one.user for _, one in await told(store)] == ["u1002"]


async def test_an_acknowledgement_is_once_an_episode(store: Store, silences: Silences) -> None:
    """An episode can be acknowledged once; later violations can be acknowledged after a while."""
    first = await ack(silences)
    assert first.silence is not None
    assert (await ack(silences, "while it lasts")).code == "acknowledged"
    assert await end(silences, first.silence.id, uid=ALICE, admin=False) == "ended"
    refused = await ack(silences, "at once")
    assert refused.code == "acknowledged"
    assert refused.until_ms is not None
    assert refused.until_ms < first.silence.until_ms  # It ended when it was ended.
    await anyio.sleep(0.05)
    assert (await ack(silences, "open still", ack_max=0.001)).code == "acknowledged"
    await see(store, HIS)
    await see(store, HERS, HIS)
    assert (await ack(silences, "too soon")).code == "acknowledged"
    assert (await ack(silences, "something new", ack_max=0.001)).code == "added"
    assert (await ack(silences, uid=BOB)).code == "added"


async def test_an_acknowledgement_that_ran_out_counts_too(store: Store, silences: Silences) -> None:
    """An acknowledgement that expired counts until its planned end."""
    await ack(silences, lasts=0.05, ack_max=0.05)
    await anyio.sleep(0.15)
    assert (await ack(silences, "open still", ack_max=0.05)).code == "acknowledged"
    await see(store, HIS)
    await see(store, HERS)
    assert (await ack(silences, "something new", ack_max=0.05)).code == "added"


async def test_a_user_ends_their_own_acknowledgement_only(store: Store, silences: Silences) -> None:
    """Users can end only their own acknowledgement, administrators any silence."""
    hers, made = (await ack(silences)).silence, await add(silences, user=f"u{BOB}")
    assert hers is not None
    assert await end(silences, hers.id, uid=BOB, admin=False) == "not-yours"
    assert await end(silences, made.id, uid=BOB, admin=False, operation="y") == "not-yours"
    assert await end(silences, "s1-1", uid=BOB, admin=False, operation="z") == "none"
    assert set(await live(store)) == {hers.id, made.id}
    assert await end(silences, hers.id) == "ended"


async def test_an_acknowledgement_is_its_users_under_any_name(store: Store, silences: Silences) -> None:
    """A user without a name acknowledges by uid, and the name may become known later."""
    draft = Draft(by=str(ALICE), by_uid=ALICE, reason="known", user=str(ALICE), ack=True)
    done = await silences.silence(draft, "ack", lasts=HOUR, ack_max=HOUR)
    assert (done.code, done.silence and done.silence.gpus) == ("added", (0,))
    fields: Any = await store.redis.hgetall(store.keys.open)
    opened = open_violations(fields)
    assert [one.user for one in opened if done.silence and done.silence.covers(one)] == [f"u{ALICE}"]
