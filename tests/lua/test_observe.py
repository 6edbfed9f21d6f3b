"""`observe` and `stall` on a real Redis: what opens, updates and closes a violation."""

from typing import Any

import anyio
import msgspec
import pytest

from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.gpu import GpuUsage, ProcessUse
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import Violation
from canhazgpu.service.gpus.observation import Observed, observe, stall
from canhazgpu.service.storage.snapshot import snapshot

pytestmark = pytest.mark.anyio
CONFIRM = 0.05
STALE = 60.0


def used(index: int, *processes: ProcessUse, **changes: Any) -> GpuUsage:
    """Return a GPU with these processes, or with unattributed memory."""
    facts = {"memory_mb": sum(one.memory_mb or 0 for one in processes) or 500, **changes}
    users = tuple(sorted({one.user for one in processes})) or ("unknown",)
    return GpuUsage(
        index=index, uuid=f"GPU-{index}", name="H100", in_use=True, users=users, processes=processes, **facts
    )


def idle(index: int, **changes: Any) -> GpuUsage:
    """Return an idle GPU."""
    facts: dict[str, Any] = {"uuid": f"GPU-{index}", "name": "H100", **changes}
    return GpuUsage(index=index, **facts)


def process(pid: int, user: str = "bob", uid: int = 1001, memory_mb: int = 1024) -> ProcessUse:
    """Return a process of a user."""
    return ProcessUse(
        pid=pid,
        name="python3",
        user=user,
        uid=uid,
        person=user,
        evidence="uid",
        memory_mb=memory_mb,
        start=pid,
    )


async def scan(store: Store, *usages: GpuUsage, confirm: float = CONFIRM, stale: float = STALE) -> Observed:
    """Store one scan."""
    return await observe(store, usages, confirm, stale)


async def twice(store: Store, *usages: GpuUsage) -> None:
    """Store two scans, which confirm a candidate."""
    await scan(store, *usages)
    await anyio.sleep(CONFIRM + 0.01)
    await scan(store, *usages)


async def told(store: Store, stream: str) -> list[Event]:
    """Return the events of a stream."""
    rows: Any = await store.redis.xrange(stream)
    return [decode(fields) for _, fields in rows]


async def kinds(store: Store) -> list[str]:
    """Return the events about violations."""
    return [event.type.rpartition(".")[2] for event in await told(store, store.keys.violations)]


async def test_a_use_seen_once_accuses_nobody(store: Store) -> None:
    """The first scan makes a candidate and returns when it can be confirmed."""
    observed = await scan(store, used(0, process(7)))
    assert await kinds(store) == []
    assert observed.due_ms == observed.now_ms + round(CONFIRM * 1000)


async def test_two_scans_that_are_too_close_accuse_nobody(store: Store) -> None:
    """Many scans within the confirmation time confirm nothing."""
    for _ in range(5):
        await scan(store, used(0, process(7)), confirm=3600)
    assert await kinds(store) == []


async def test_a_confirmed_use_opens_one_violation_on_both_streams(store: Store) -> None:
    """A confirmed violation is the same event, with the same id, on both streams."""
    await twice(store, used(0, process(7), process(8, memory_mb=6)))
    (fact,) = await told(store, store.keys.violations)
    assert fact in await told(store, store.keys.events)
    violation = msgspec.convert(fact.data, Violation, strict=True)
    assert (violation.gpu, violation.user, violation.uid, violation.person) == (0, "bob", 1001, "bob")
    assert (violation.kind, violation.memory_mb) == ("unreserved", 1030)
    assert [one.pid for one in violation.processes] == [7, 8]
    assert fact.subject == f"violation/{violation.violation}"
    assert violation.since < fact.time


async def test_an_unchanged_host_writes_nothing_to_any_stream(store: Store) -> None:
    """Scans of an unchanged host write nothing to any stream, also if it is in use."""
    host = (used(0, process(7)), idle(1))
    await twice(store, *host)
    before = [len(await told(store, stream)) for stream in (store.keys.events, store.keys.violations)]
    for _ in range(20):
        await scan(store, *host)
    assert [len(await told(store, s)) for s in (store.keys.events, store.keys.violations)] == before


async def test_wobbling_memory_is_kept_but_not_told(store: Store) -> None:
    """Changing memory causes no event; the closing event has the peak."""
    await twice(store, used(0, process(7, memory_mb=1000)))
    await scan(store, used(0, process(7, memory_mb=3000)))
    await scan(store, used(0, process(7, memory_mb=2000)))
    (state,) = (await snapshot(store)).gpus
    assert state.violations[0].memory_mb == 2000
    await scan(store, idle(0))
    assert await kinds(store) == ["opened", "closed"]
    closing = (await told(store, store.keys.violations))[-1].data
    assert (closing["peak_memory_mb"], closing["reason"]) == (3000, "stopped")
    assert closing["duration_s"] >= 0


async def test_another_process_updates_the_violation(store: Store) -> None:
    """Another process updates the violation."""
    await twice(store, used(0, process(7)))
    await scan(store, used(0, process(7), process(9)))
    facts = await told(store, store.keys.violations)
    assert [fact.type for fact in facts] == ["canhazgpu.violation.opened", "canhazgpu.violation.updated"]
    assert facts[0].data["violation"] == facts[1].data["violation"]


async def test_each_user_on_a_gpu_has_a_violation_of_their_own(store: Store) -> None:
    """Each user on a GPU has their own violation, which ends when they stop."""
    await twice(store, used(0, process(7), process(8, "alice", 1002)))
    await scan(store, used(0, process(7)))
    facts = await told(store, store.keys.violations)
    assert sorted(fact.data["user"] for fact in facts[:2]) == ["alice", "bob"]
    assert (facts[2].type, facts[2].data["user"]) == ("canhazgpu.violation.closed", "alice")


async def test_memory_without_a_process_accuses_no_person(store: Store) -> None:
    """Memory without a process is a violation without a user."""
    await twice(store, used(0))
    (fact,) = await told(store, store.keys.violations)
    assert (fact.data["user"], fact.data["person"], fact.data["uid"]) == ("unknown", None, None)


@pytest.mark.parametrize("state", ["error", "unknown"])
async def test_a_gpu_that_cannot_be_read_neither_opens_nor_closes(store: Store, state: str) -> None:
    """A GPU that cannot be read opens and closes nothing, and the candidate is kept."""
    blind = idle(0, state=state, reason="GPU is lost")
    await twice(store, used(0, process(7)))
    await scan(store, blind)
    assert await kinds(store) == ["opened"]
    await scan(store, used(0, process(7)))
    assert await kinds(store) == ["opened"]
    await scan(store, idle(0))
    await scan(store, used(0, process(9)))
    await scan(store, blind)
    await anyio.sleep(CONFIRM + 0.01)
    await scan(store, used(0, process(9)))
    assert await kinds(store) == ["opened", "closed", "opened"]


async def test_after_a_long_gap_a_candidate_starts_anew(store: Store) -> None:
    """A candidate expires if nothing is known for a long time."""
    await scan(store, used(0, process(7)), stale=0.05)
    await anyio.sleep(0.1)
    await scan(store, used(0, process(7)), stale=0.05)
    assert await kinds(store) == []


async def test_the_holder_of_a_reservation_does_nothing_wrong(store: Store) -> None:
    """The holder does not violate; others trespass, and a reservation closes the user's violation."""
    await twice(store, used(0, process(7)))
    await store.redis.hset(
        store.keys.gpu(0), mapping={"holder": "r1", "holder_uid": "1001", "holder_user": "bob"}
    )
    await scan(store, used(0, process(7)))
    last = (await told(store, store.keys.violations))[-1]
    assert (last.type, last.data["reason"]) == ("canhazgpu.violation.closed", "reserved")
    await twice(store, used(0, process(7), process(8, "alice", 1002)))
    last = (await told(store, store.keys.violations))[-1]
    assert (last.data["user"], last.data["kind"], last.data["holder"]) == ("alice", "trespass", "bob")


async def test_a_gpu_that_fails_is_told_once_and_so_is_its_recovery(store: Store) -> None:
    """gpu.failed and gpu.recovered come in pairs."""
    for usage in (
        idle(0),
        idle(0, state="error", reason="GPU is lost"),
        idle(0, state="error", reason="GPU is lost"),
        idle(0, state="unknown", reason="Timeout"),
        idle(0),
    ):
        await scan(store, usage)
    types = [event.type for event in await told(store, store.keys.events)]
    assert types.count("canhazgpu.gpu.failed") == 1
    assert types.count("canhazgpu.gpu.recovered") == 1


async def test_another_gpu_in_the_same_place_inherits_no_accusation(store: Store) -> None:
    """If another card is at the index, violations are closed and candidates start again."""
    await twice(store, used(0, process(7)))
    other = msgspec.structs.replace(used(0, process(7)), uuid="GPU-other")
    await scan(store, other)
    assert await kinds(store) == ["opened", "closed"]


async def test_a_stall_is_told_once_and_ends_with_a_scan(store: Store) -> None:
    """A stall is reported once, and a scan ends it."""
    await scan(store, idle(0))
    for _ in range(3):
        await stall(store, "no answer", "look")
    assert (await snapshot(store)).stalled_reason == "no answer"
    await scan(store, idle(0))
    types = [event.type for event in await told(store, store.keys.events)]
    assert types[-2:] == ["canhazgpu.scanner.stalled", "canhazgpu.scanner.resumed"]
    assert (await snapshot(store)).stalled_ms is None


async def test_a_forgotten_script_is_loaded_again(store: Store) -> None:
    """A scan works after `SCRIPT FLUSH`."""
    await scan(store, used(0, process(7)))
    await store.redis.script_flush()
    await anyio.sleep(CONFIRM + 0.01)
    await scan(store, used(0, process(7)))
    assert await kinds(store) == ["opened"]


async def test_a_repeat_of_the_same_scan_changes_nothing(store: Store) -> None:
    """Storing the same scan again changes nothing."""
    await twice(store, used(0, process(7)))
    before = await told(store, store.keys.events)
    await scan(store, used(0, process(7)))
    assert await told(store, store.keys.events) == before


async def test_replaying_the_facts_gives_the_open_violations(store: Store) -> None:
    """Replaying the events gives the open violations."""
    await twice(store, used(0, process(7)), used(1, process(8, "alice", 1002)), used(2, process(7)))
    await scan(store, used(0, process(7)), idle(1), used(2, process(7), process(11)))
    replayed: dict[str, Violation] = {}
    for fact in await told(store, store.keys.violations):
        violation = msgspec.convert(fact.data, Violation)
        replayed[violation.violation] = violation
        if violation.closed:
            del replayed[violation.violation]
    state = {one.violation: one for gpu in (await snapshot(store)).gpus for one in gpu.violations}
    assert replayed == state


async def test_event_ids_grow(store: Store) -> None:
    """Event ids are unique and increase."""
    await twice(store, used(0, process(7)), used(1, process(7)))
    ids = [tuple(map(int, event.id.split("-"))) for event in await told(store, store.keys.events)]
    assert ids == sorted(set(ids))
