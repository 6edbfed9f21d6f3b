"""The dispatcher on a real Redis: notices are created once, and timers survive restarts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from support.eventually import eventually

from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.notices import Notice
from canhazgpu.events.outbox import deadletters
from canhazgpu.events.redis_client.keys import GROUP_DISPATCHER
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import CLOSED, OPENED, Violation
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio
LONG = 3600.0


def settings(wait: float, repeat: float = LONG) -> Settings:
    """Return settings with these times."""
    return Settings(
        host="h",
        notices=Notices(group_wait=wait, repeat_interval=repeat, resolve_hold=0.05, group_interval=0.05),
    )


@asynccontextmanager
async def working(
    store: Store, wait: float, repeat: float = LONG, name: str = "daemon"
) -> AsyncIterator[None]:
    """Run a dispatcher until the block ends."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(Dispatcher(settings(wait, repeat), store, name).run)
        yield
        tasks.cancel_scope.cancel()


def violation(name: str, gpu: int = 0, uid: int = 1001) -> Violation:
    """Return a violation of a user."""
    return Violation(
        violation=name,
        kind="unreserved",
        gpu=gpu,
        gpu_uuid=f"GPU-{gpu}",
        gpu_name="H100",
        key=f"uid:{uid}",
        user=f"user{uid}",
        uid=uid,
        person=f"user{uid}",
        evidence="uid",
        since="2026-01-01T00:00:00.000Z",
        memory_mb=1024,
        peak_memory_mb=1024,
    )


async def put(store: Store, kind: str, one: Violation) -> None:
    """Append a fact."""
    event = Event(
        id="1-1",
        source="//h/canhazgpu",
        type=kind,
        subject=f"violation/{one.violation}",
        time="2026-01-01T00:00:00.000Z",
        data=msgspec.to_builtins(one),
    )
    fields: Any = event.to_fields()
    await store.redis.xadd(store.keys.violations, fields)


async def notices(store: Store) -> list[Notice]:
    """Return the notices so far."""
    rows: Any = await store.redis.xrange(store.keys.notices)
    return [msgspec.convert(decode(fields).data, Notice, strict=True) for _, fields in rows]


async def made(store: Store, *kinds: str) -> list[Notice]:
    """Wait until these are the notices, in this order."""

    async def there() -> bool:
        return len(await notices(store)) >= len(kinds)

    await eventually(there)
    found = await notices(store)
    assert [one.kind for one in found] == list(kinds)
    return found


async def settled(store: Store, facts: int) -> None:
    """Wait until this number of facts was read and none is pending."""

    async def nothing_left() -> bool:
        groups: Any = await store.redis.xinfo_groups(store.keys.violations)
        if not groups:  # The dispatcher has not begun to read.
            return False
        read: Any = await store.redis.xrange(store.keys.violations, "-", groups[0]["last-delivered-id"])
        return len(read) == facts and groups[0]["pending"] == 0

    await eventually(nothing_left)


async def set_due(store: Store, group: str, field: str, later_ms: int = 0) -> None:
    """Set the timer of a group to now, or to a moment that soon comes."""
    text: Any = await store.redis.hget(store.keys.groups, group)
    due_ms = await store.now_ms() + later_ms
    state = {**msgspec.json.decode(text), field: due_ms}
    await store.redis.hset(store.keys.groups, group, msgspec.json.encode(state))
    await store.redis.zadd(store.keys.due, {group: due_ms})


async def test_an_episode_from_its_opening_to_its_end(store: Store) -> None:
    """Two GPUs cause one notice after the wait, then a resolved one, and nothing of the group is left."""
    async with working(store, LONG):
        await put(store, OPENED, violation("v1"))
        await put(store, OPENED, violation("v2", 1))
        await settled(store, 2)
    assert await notices(store) == []
    await set_due(store, "uid:1001", "notify_ms")
    async with working(store, LONG):
        (opened,) = await made(store, "opened")
        assert [one.violation for one in opened.violations] == ["v1", "v2"]
        assert (opened.user, opened.uid, opened.host, opened.episode) == (
            "user1001",
            1001,
            store.keys.host,
            "v1",
        )
        await put(store, CLOSED, violation("v1"))
        await put(store, CLOSED, violation("v2", 1))
        _, resolved = await made(store, "opened", "resolved")
        assert (resolved.episode, len(resolved.violations)) == ("v1", 2)
        await settled(store, 4)
    assert await store.redis.hgetall(store.keys.groups) == {}
    assert await store.redis.zcard(store.keys.due) == 0


async def test_each_user_has_a_notice_of_their_own(store: Store) -> None:
    """Each user has a group; the same GPU does not join them."""
    async with working(store, 0.1):
        await put(store, OPENED, violation("v1", 0, 1001))
        await put(store, OPENED, violation("v2", 0, 1002))
        found = await made(store, "opened", "opened")
    assert {one.user for one in found} == {"user1001", "user1002"}
    assert {len(one.violations) for one in found} == {1}


async def test_a_wait_survives_a_restart(store: Store) -> None:
    """If the dispatcher is restarted, a timer is still honoured without a new fact."""
    async with working(store, LONG):
        await put(store, OPENED, violation("v1"))
        await settled(store, 1)
    assert await notices(store) == []
    await set_due(store, "uid:1001", "notify_ms", 1_000)
    async with working(store, LONG, name="another"):
        await made(store, "opened")


async def test_what_came_due_while_nobody_worked_is_sent_at_once(store: Store) -> None:
    """A timer that is due at the start is handled at once."""
    async with working(store, LONG):
        await put(store, OPENED, violation("v1"))
        await settled(store, 1)
    await set_due(store, "uid:1001", "notify_ms")
    async with working(store, LONG):
        await made(store, "opened")


async def test_a_reminder_survives_a_restart(store: Store) -> None:
    """Restarts neither lose the reminder nor repeat the first notice."""
    async with working(store, 0.0):
        await put(store, OPENED, violation("v1"))
        await made(store, "opened")
        await settled(store, 1)
    async with working(store, 0.0):
        assert [one.kind for one in await notices(store)] == ["opened"]
    await set_due(store, "uid:1001", "remind_ms")
    async with working(store, 0.0):
        first, reminder = await made(store, "opened", "reminder")
    assert first.episode == reminder.episode
    assert first.notice != reminder.notice


async def test_facts_of_a_dispatcher_that_died_are_not_lost(store: Store) -> None:
    """A fact that was read and not handled is handled after a restart."""
    await put(store, OPENED, violation("v1"))
    await store.redis.xgroup_create(store.keys.violations, GROUP_DISPATCHER, id="0")
    await store.redis.xreadgroup(GROUP_DISPATCHER, "daemon", {store.keys.violations: ">"})
    async with working(store, 0.0):
        await made(store, "opened")
        await settled(store, 1)


async def test_two_dispatchers_make_no_notice_twice(store: Store) -> None:
    """If two dispatchers run, one of them sends."""
    async with working(store, 0.2, name="one"), working(store, 0.2, name="two"):
        for uid in range(1001, 1011):
            await put(store, OPENED, violation(f"v{uid}", 0, uid))
        found = await made(store, *["opened"] * 10)
        assert len({one.user for one in found}) == 10
        for uid in range(1001, 1011):
            await put(store, CLOSED, violation(f"v{uid}", 0, uid))
        await made(store, *["opened"] * 10, *["resolved"] * 10)


@pytest.mark.parametrize(
    "poison",
    [
        {"data": b"\xff"},
        {"data": b"{}"},
        {"data": b'{"violation": 5}'},
        {"specversion": b"2.0"},
        {"data": b'{"a": "\\ud800"}'},
    ],
)
async def test_poison_among_the_facts_stops_nobody(store: Store, poison: dict[str, bytes]) -> None:
    """An unreadable fact becomes a dead letter, and the next one is handled."""
    good: Any = Event(
        id="1-1", source="s", type=OPENED, subject="s", time="t", data=msgspec.to_builtins(violation("v0"))
    ).to_fields()
    await store.redis.xadd(store.keys.violations, good | poison)
    await put(store, OPENED, violation("v1"))
    async with working(store, 0.0):
        (opened,) = await made(store, "opened")
        await settled(store, 2)
    assert [one.violation for one in opened.violations] == ["v1"]
    assert len(await deadletters(store)) == 1


async def test_after_a_flush_it_goes_on(store: Store) -> None:
    """If the consumer group is lost, it is created again."""
    async with working(store, 0.0):
        await put(store, OPENED, violation("v1"))
        await made(store, "opened")
        await store.redis.flushall()
        await put(store, OPENED, violation("v2"))
        (opened,) = await made(store, "opened")
    assert opened.episode == "v2"
