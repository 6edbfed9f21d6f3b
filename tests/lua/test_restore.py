"""`restore` on a real Redis, and the scripts that refuse to work on incomplete data."""

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs
from support.reservations import ALICE, BOB, Lab, process, used

from canhazgpu.events.redis_client.fencing import FencingToken
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.gpus.observation import stall
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.recovery.reconciliation_plan import encode_for_script
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.journal import Journal
from canhazgpu.service.storage.snapshot import snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lab(store: Store, tmp_path: Path) -> Lab:
    """A host that acknowledges changes only after they are in the journal."""
    lab = Lab(store)
    reconciler = Reconciler(store, Journal(tmp_path / "journal"))
    await reconciler.start()
    await reconciler.sync()
    lab.allocator.begin = reconciler.begin
    return lab


async def wipe(store: Store) -> None:
    """Remove all data."""
    await store.redis.flushall()


async def copy(store: Store) -> dict[bytes, bytes]:
    """Return all data, for `back`."""
    names: Any = await store.redis.keys("*")
    dumps: list[Any] = [await store.redis.dump(name) for name in names]
    return dict(zip(names, dumps, strict=True))


async def back(store: Store, data: dict[bytes, bytes]) -> None:
    """Set Redis back to earlier data."""
    await wipe(store)
    for name, text in data.items():
        await store.redis.restore(name, 0, text)


async def holders(store: Store) -> list[str]:
    """Return the reservations of GPU 0 and 1."""
    found: list[Any] = [await store.redis.hget(store.keys.gpu(index), "holder") for index in range(2)]
    return [(one or b"").decode() for one in found]


async def test_a_wipe_is_repaired_before_the_next_grant(lab: Lab) -> None:
    """After a wipe, the first allocation restores the data and is refused."""
    name = await lab.reserve()
    before = await lab.record(name)
    await wipe(lab.store)
    ask = AllocationRequest(kind="manual", user="u1002", uid=BOB, gpus=(0,), duration_ms=1000)
    assert (await lab.allocator.reserve(ask, "bob")).code == "refused"
    after = await lab.record(name)
    assert (after.expires_ms, after.gpus, after.rev) == (before.expires_ms, before.gpus, before.rev + 1)
    assert [event.subject for event in await lab.published("restored")] == [f"reservation/{name}"]
    await lab.scan(used(0, process(ALICE)))
    assert (await lab.allocator.release(ReleaseOrder(uid=ALICE, by="a", reason="released"), "over"))[
        0
    ] == "released"


async def test_data_that_were_set_back_are_repaired(lab: Lab) -> None:
    """After Redis was set back, released reservations stay released and granted ones are restored."""
    first = await lab.reserve()
    older = await copy(lab.store)
    await lab.allocator.release(ReleaseOrder(uid=ALICE, by="alice", reason="released"), "over")
    await lab.scan()
    second = await lab.reserve(uid=BOB, gpus=(1,))
    await back(lab.store, older)
    await lab.scan()
    assert await holders(lab.store) == ["", second]
    assert [one.id for one in await lab.allocator.reservations()] == [second]
    assert [event.data["reason"] for event in await lab.published("released")] == ["stale"]
    assert first != second


async def test_a_loss_that_the_sequence_hides_is_seen_before_a_grant_is_answered(lab: Lab) -> None:
    """A loss behind foreign events is noticed before a grant is acknowledged."""
    older = await copy(lab.store)
    mine = await lab.reserve()
    await back(lab.store, older)
    assert lab.store.fencing_token is not None
    await lab.store.redis.set(lab.store.keys.sequence, lab.store.fencing_token.sequence + 100)
    await lab.store.redis.hset(lab.store.keys.scan, "dataset", lab.store.fencing_token.dataset)
    await lab.scan()
    ask = AllocationRequest(kind="manual", user="u1002", uid=BOB, gpus=(0,), duration_ms=1000)
    assert (await lab.allocator.reserve(ask, "bob")).code != "granted"
    assert (await holders(lab.store))[0] == mine
    assert [one.id for one in await lab.allocator.reservations()] == [mine]


async def test_a_living_run_keeps_its_gpu(lab: Lab) -> None:
    """If two reservations claim a GPU, a run with a live process keeps it."""
    before = await copy(lab.store)
    name = await lab.reserve("run", pid=1, start=0)
    record = await lab.record(name)
    await back(lab.store, before)
    other = Lab(lab.store)
    held = lab.store.fencing_token
    lab.store.fencing_token = None  # Another service that does not know of it.
    theirs = await other.reserve(uid=BOB)
    lab.store.fencing_token = held
    assert record.pid == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("canhazgpu.service.recovery.reconciliation.is_process_alive", lambda _: True)
        await lab.allocator.begin()({})
    assert (await holders(lab.store))[0] == name
    released = await lab.published("released")
    assert [(one.subject, one.data["reason"]) for one in released] == [(f"reservation/{theirs}", "lost")]


async def test_without_a_way_to_recover_nothing_is_handed_out(store: Store) -> None:
    """Without a journal to restore from, scripts refuse to allocate."""
    lab = Lab(store)
    await lab.scan()
    store.fencing_token = FencingToken(dataset="d", sequence=0)
    ask = AllocationRequest(kind="manual", user="u1002", uid=BOB, gpus=(0,), duration_ms=1000)
    with pytest.raises(StoreDown, match="BEHIND"):
        await lab.allocator.reserve(ask, "bob")
    with pytest.raises(StoreDown, match="BEHIND"):
        await lab.scan()


@pytest.mark.parametrize("text", ["abc", "1.5", ""])
async def test_a_sequence_that_is_no_number_is_repaired(lab: Lab, text: str) -> None:
    """A sequence that is not a number is repaired, and event numbers continue after the journal's."""
    mine = await lab.reserve()
    assert lab.store.fencing_token is not None
    before = lab.store.fencing_token.sequence
    await lab.store.redis.set(lab.store.keys.sequence, text)
    with capture_logs() as logs:
        await lab.scan()
    assert [line["dataset"] for line in logs if line["event"] == "redis_data_changed"] == ["damaged"]
    assert int(await lab.store.redis.get(lab.store.keys.sequence) or 0) >= before
    await lab.store.redis.set(lab.store.keys.sequence, text)
    await stall(lab.store, "the driver is away", "wait")
    await lab.reserve(uid=BOB, gpus=(1,))
    assert (await holders(lab.store))[0] == mine


async def test_a_record_with_other_gpus_is_put_right(lab: Lab) -> None:
    """If a record was changed without a new revision, the GPUs in the journal count."""
    mine = await lab.reserve()
    record = await lab.record(mine)
    text = msgspec.json.encode({**msgspec.json.decode(encode_for_script(record)), "gpus": [1]})
    await lab.store.redis.hset(lab.store.keys.reservations, mine, text)
    await lab.allocator.begin()({})
    assert (await lab.record(mine)).gpus == (0,)
    assert await holders(lab.store) == [mine, ""]


async def test_a_usage_that_cannot_be_read_is_left_out(lab: Lab) -> None:
    """A usage that cannot be read is left out, and the next scan writes it again."""
    await lab.scan()
    whole: Any = await lab.store.redis.hget(lab.store.keys.gpu(0), "usage")
    await lab.store.redis.hset(lab.store.keys.gpu(0), "usage", whole.replace(b'"name"', b'"naze"'))
    with capture_logs() as logs:
        assert [one.usage.index for one in (await snapshot(lab.store)).gpus] == [1]
    assert [line["event"] for line in logs] == ["usage_unreadable"]
    await lab.scan()
    assert [one.usage.index for one in (await snapshot(lab.store)).gpus] == [0, 1]


async def test_two_acknowledged_reservations_of_one_gpu(store: Store, tmp_path: Path) -> None:
    """If the journal itself has a conflict, one of the two is restored, and the conflict is reported."""
    lab, journal = Lab(store), Journal(tmp_path / "journal")
    reconciler = Reconciler(store, journal)
    await reconciler.start()
    await reconciler.sync()
    lab.allocator.begin = reconciler.begin
    mine, theirs = await lab.reserve(), await lab.reserve(uid=BOB, gpus=(1,))
    kept = journal.read()
    assert kept is not None
    journal.write(
        msgspec.structs.replace(
            kept,
            records={name: msgspec.structs.replace(one, gpus=(0,)) for name, one in kept.records.items()},
        )
    )
    await wipe(store)
    again = Reconciler(store, journal)
    await again.start()
    with anyio.fail_after(10):
        await again.sync()
    assert again.last is not None
    assert [conflict["gpu"] for conflict in again.last.conflicts] == [0]
    (left,) = await lab.allocator.reservations()
    assert [left.id, *(await holders(store))] == [left.id, left.id, ""]
    assert left.id in {mine, theirs}
