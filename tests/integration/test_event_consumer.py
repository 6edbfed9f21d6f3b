"""The consumer library on a real Redis: order, retries, dead letters, and members that are gone."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.foreign_consumer import GROUP, append, left_nothing, member, pending, running, until_length

from canhazgpu.events import GivenUp, StreamEvent, TryAgain, read_dead_letters
from canhazgpu.events.consumer import handling
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import GpuHandling

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are tried again soon."""
    monkeypatch.setattr(handling, "PAUSE_FIRST", 0.01)


async def test_events_come_in_order_once_and_are_acknowledged(store: Store) -> None:
    """Entries from before the group existed come first, then new ones; a restarted member gets none again."""
    ids = await append(store, 1, 700)
    found: list[str] = []
    async with running(member(store), lambda event: found.append(event.stream_id)):
        await until_length(found, 700)
        ids += await append(store, 701, 702)
        await until_length(found, 702)
        await left_nothing(store)
    assert found == ids
    async with running(member(store), lambda event: found.append(event.stream_id)):
        ids += await append(store, 703, 703)
        await until_length(found, 703)
        await left_nothing(store)  # A handler that is cancelled in its thread leaves its event pending.
    assert found == ids


async def test_a_coroutine_and_a_plain_function_get_the_same(store: Store) -> None:
    """A handler can be either; an event has its data as a type."""
    data = b'{"index": 3, "uuid": "GPU-3", "name": "H100", "by": "root", "later": 1}'
    await append(store, 1, 1, data=data)
    found: list[StreamEvent] = []

    async def handle(event: StreamEvent) -> None:
        found.append(event)

    async with running(member(store), handle):
        await until_length(found, 1)
    async with running(member(store, group="other"), found.append):
        await until_length(found, 2)
    assert found[0] == found[1]
    typed = found[0].typed()
    assert isinstance(typed, GpuHandling)
    assert (found[0].type, found[0].attempt) == ("canhazgpu.gpu.drained", 1)


async def test_only_the_types_that_were_chosen_are_handled(store: Store) -> None:
    """Others are acknowledged, and are never seen."""
    await append(store, 1, 9)
    found: list[str] = []
    async with running(member(store, types=["request"]), lambda event: found.append(event.type)):
        await until_length(found, 4)
        await left_nothing(store)
    assert found == ["canhazgpu.request.queued"] * 4


async def test_a_new_group_can_begin_with_what_comes(store: Store) -> None:
    """With `newest`, entries from before the group are not read."""
    await append(store, 1, 5)
    found: list[str] = []
    async with running(member(store, begin="newest"), lambda event: found.append(event.stream_id)):

        async def grouped() -> bool:
            return bool(await store.redis.xinfo_groups(store.keys.events))

        await eventually(grouped)
        ids = await append(store, 6, 7)
        await until_length(found, 2)
    assert found == ids


async def test_an_event_that_fails_is_tried_again_before_the_next(store: Store) -> None:
    """The order is kept, and the handler learns which attempt it is."""
    ids = await append(store, 1, 3)
    found: list[tuple[str, int]] = []

    def handle(event: StreamEvent) -> None:
        found.append((event.stream_id, event.attempt))
        if event.stream_id == ids[1] and event.attempt < 3:
            raise RuntimeError("the ticket system says no")

    async with running(member(store), handle):
        await until_length(found, 5)
        await left_nothing(store)
    assert found == [(ids[0], 1), (ids[1], 1), (ids[1], 2), (ids[1], 3), (ids[2], 1)]


async def test_an_event_that_keeps_failing_becomes_a_dead_letter(store: Store, tmp_path: Path) -> None:
    """It is in the file with the reason, and the next event comes."""
    ids = await append(store, 1, 3)
    found: list[str] = []

    def handle(event: StreamEvent) -> None:
        if event.stream_id == ids[1]:
            raise RuntimeError("the ticket system says no")
        found.append(event.stream_id)

    path = tmp_path / "dead"
    async with running(member(store, attempts=3, dead_letters=path), handle):
        await until_length(found, 2)
        await left_nothing(store)
    assert found == [ids[0], ids[2]]
    (letter,) = read_dead_letters(path)
    assert (letter.stream_id, letter.attempts, letter.group) == (ids[1], 3, GROUP)
    assert letter.reason == "RuntimeError: the ticket system says no"
    assert letter.event
    assert letter.event.data == {"gpu": 2}


async def test_an_entry_that_is_no_event_becomes_a_dead_letter_with_its_bytes(
    store: Store, tmp_path: Path
) -> None:
    """An entry that cannot be decoded is never tried, and does not stop the others."""
    await append(store, 1, 1, data=b"\xff{")
    ids = await append(store, 2, 2)
    found: list[str] = []
    async with running(
        member(store, dead_letters=tmp_path / "dead"), lambda event: found.append(event.stream_id)
    ):
        await until_length(found, 1)
        await left_nothing(store)
    assert found == ids
    (letter,) = read_dead_letters(tmp_path / "dead")
    assert letter.raw["data"] == "\\xff{"


async def test_without_a_file_for_dead_letters_it_stops_and_loses_nothing(store: Store) -> None:
    """The event that failed stays pending, and so do those after it; those before are acknowledged."""
    ids = await append(store, 1, 3)

    def handle(event: StreamEvent) -> None:
        if event.stream_id == ids[1]:
            raise RuntimeError("the ticket system says no")

    with pytest.raises(GivenUp, match=f"{ids[1]}.*says no"):
        await asyncio.wait_for(member(store, attempts=2).run(handle), 20)
    assert await pending(store) == 2
    found: list[str] = []
    async with running(member(store), lambda event: found.append(event.stream_id)):
        await until_length(found, 2)
    assert found == ids[1:]


async def test_a_handler_that_cannot_work_now_is_asked_until_it_can(store: Store) -> None:
    """TryAgain does not count as an attempt."""
    await append(store, 1, 1)
    calls: list[int] = []

    def handle(event: StreamEvent) -> None:
        calls.append(event.attempt)
        if len(calls) < 5:
            raise TryAgain("the ticket system is away")

    async with running(member(store, attempts=1), handle):
        await until_length(calls, 5)
        await left_nothing(store)
    assert calls == [1] * 5


async def test_an_event_that_ends_the_process_each_time_is_given_up(store: Store, tmp_path: Path) -> None:
    """Deliveries that Redis has counted are attempts; entries that waited behind it are not given up."""
    ids = await append(store, 1, 3)
    key, path = store.keys.events, tmp_path / "dead"
    await store.redis.xgroup_create(key, GROUP, id="0")
    await store.redis.xreadgroup(GROUP, "one", {key: ">"})
    for _ in range(3):  # Each time it ends while it handles the first.
        await store.redis.xreadgroup(GROUP, "one", {key: "0"}, count=1)
    found: list[tuple[str, int]] = []
    async with running(
        member(store, attempts=4, dead_letters=path),
        lambda event: found.append((event.stream_id, event.attempt)),
    ):
        await until_length(found, 2)
    assert found == [(ids[1], 2), (ids[2], 2)]
    (letter,) = read_dead_letters(path)
    assert letter.stream_id == ids[0]
    assert "ended each time" in letter.reason


async def test_what_a_member_left_is_taken_over_when_it_is_gone(store: Store) -> None:
    """A running member takes over the entries of another once they were pending for `claim_after`."""
    key = store.keys.events
    ids = await append(store, 1, 2)
    await store.redis.xgroup_create(key, GROUP, id="0")
    await store.redis.xreadgroup(GROUP, "gone", {key: ">"})
    found: list[str] = []
    async with running(member(store, claim_after=0.3), lambda event: found.append(event.stream_id)):
        await until_length(found, 2)
        await left_nothing(store)
    assert found == ids


async def test_a_slow_handler_keeps_its_events(store: Store) -> None:
    """While it works, no other member takes over what it has read."""
    await append(store, 1, 3)
    release, began = asyncio.Event(), asyncio.Event()
    slow: list[str] = []
    others: list[str] = []

    async def handle(event: StreamEvent) -> None:
        began.set()
        await release.wait()
        slow.append(event.stream_id)

    async with running(member(store, claim_after=0.9), handle):
        await began.wait()
        async with running(member(store, name="two", claim_after=0.9), lambda event: others.append(event.id)):
            before = await renewals(store)

            async def renewed() -> bool:
                """Redis has been told for longer than it takes until a member counts as gone."""
                return await renewals(store) >= before + 6

            await eventually(renewed, 20)
        release.set()
        await until_length(slow, 3)
        await left_nothing(store)
    assert others == []


async def renewals(store: Store) -> int:
    """Return how often Redis was called with XCLAIM."""
    stats: Any = await store.redis.info("commandstats")
    return int(stats.get("cmdstat_xclaim", {"calls": 0})["calls"])


async def test_redis_that_is_wiped_is_read_from_its_start(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A group that is lost is created again, and the stream that begins anew is read."""
    await append(store, 1, 2)
    found: list[str] = []
    async with running(member(store), lambda event: found.append(event.stream_id)):
        await until_length(found, 2)
        await left_nothing(store)
        with caplog.at_level(logging.WARNING):
            await store.redis.delete(store.keys.events)
            ids = await append(store, 1, 1)
            await until_length(found, 4)
    assert found[3] == ids[0]


async def test_a_stream_that_does_not_exist_is_refused(store: Store) -> None:
    """The message names those that do."""
    with pytest.raises(ValueError, match="events, violations, ledger, notices, deliveries"):
        member(store, stream="event")
