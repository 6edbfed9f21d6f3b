"""Dispatcher and delivery together on a real Redis: steps, failures, reservations, silences, digests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from support.episode import step, violation
from support.eventually import eventually

from canhazgpu.config.channels import Email, Log, Notify, Wall
from canhazgpu.config.notices import Digest, Notices, Terminate
from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import Event, decode
from canhazgpu.events.notices import Notice
from canhazgpu.events.outbox import deliveries
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.silences import Silence
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import CLOSED, OPENED, Violation
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.workers.delivery import DeliveryWorker
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio
QUICK: dict[str, Any] = {"group_wait": 0.0, "group_interval": 0.0, "resolve_hold": 0.0, "incident_wait": 0.0}


class Recorder:
    """A channel with a prepared outcome that records what it gets."""

    def __init__(self, name: str, verdict: str = "delivered") -> None:
        self.name, self.verdict = name, verdict
        self.given: list[Notice] = []

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the person or the audience, if there is one."""
        return [] if self.verdict == "nobody" else [notice.person or notice.audience]

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        """Record the notice."""
        del first
        self.given.append(notice)
        return [Outcome(one, self.verdict, "as told") for one in recipients]


@asynccontextmanager
async def working(
    store: Store, *channels: Recorder, dry_run: bool = False, **notices: Any
) -> AsyncIterator[None]:
    """Run a dispatcher and these channels until the block ends."""
    on = {channel.name for channel in channels}
    settings = Settings(
        host="h",
        notices=Notices(**{**QUICK, **notices}),
        notify=Notify(
            wall=Wall(enabled="wall" in on), email=Email(enabled="email" in on), log=Log(enabled=False)
        ),
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(Dispatcher(settings, store, "daemon").run)
        for channel in channels:
            await tasks.start(DeliveryWorker(store, channel, "daemon", dry_run=dry_run).run)
        yield
        tasks.cancel_scope.cancel()


async def put(store: Store, stream: str, kind: str, subject: str, data: Any) -> None:
    """Append an event."""
    moment = rfc3339(await store.now_ms())
    event = Event(
        id="1-1", source="//h/c", type=kind, subject=subject, time=moment, data=msgspec.to_builtins(data)
    )
    fields: Any = event.to_fields()
    await store.redis.xadd(stream, fields)


async def fact(store: Store, kind: str, one: Violation) -> None:
    """Append a fact about a violation."""
    await put(store, store.keys.violations, kind, f"violation/{one.violation}", one)


async def event(store: Store, verb: str, subject: str, **data: Any) -> None:
    """Append an event that is not about a violation."""
    await put(store, store.keys.events, f"canhazgpu.{verb}", subject, data)


async def notices(store: Store) -> list[Notice]:
    """Return the notices so far."""
    rows: Any = await store.redis.xrange(store.keys.notices)
    return [msgspec.convert(decode(fields).data, Notice) for _, fields in rows]


async def made(store: Store, *expected: str) -> list[Notice]:
    """Wait until these are the notices: kind and audience."""

    async def there() -> bool:
        return len(await notices(store)) >= len(expected)

    await eventually(there)
    found = await notices(store)
    assert [f"{one.kind} {one.audience}" for one in found] == list(expected)
    return found


async def test_what_reaches_nobody_falls_through_to_the_next(store: Store) -> None:
    """If channels reach nobody, the steps follow each other at once: terminals, mail, administrators."""
    wall, email = Recorder("wall", "nobody"), Recorder("email", "failed")
    async with working(store, wall, email):
        await fact(store, OPENED, violation("v1"))
        found = await made(store, "opened offender", "opened offender", "opened admins")
    assert [one.unreached for one in found] == [False, False, True]
    assert [one.channels for one in found] == [("wall",), ("email",), ("email",)]
    rows = await deliveries(store)
    assert [(row.channel, row.outcome, row.final) for row in rows[:2]] == [
        ("wall", "nobody", True),
        ("email", "failed", True),
    ]
    assert {row.group for row in rows} == {"uid:1001"}


async def test_who_is_reached_is_not_told_by_the_next_before_its_time(store: Store) -> None:
    """A user who was reached gets one notice per step, and the resolved notice."""
    wall, email = Recorder("wall"), Recorder("email")
    async with working(store, wall, email):
        await fact(store, OPENED, violation("v1"))
        await made(store, "opened offender")

        async def told() -> bool:
            return bool(await store.redis.hlen(store.keys.delivered("wall")))

        await eventually(told)
        await fact(store, CLOSED, violation("v1", reason="stopped", closed="x"))
        await made(store, "opened offender", "resolved offender")
        await eventually(lambda: _is(len(wall.given), 2))
    assert email.given == []


async def _is(found: object, wanted: object) -> bool:
    return found == wanted


async def test_a_dry_run_tells_nobody_and_says_whom_it_would_have(store: Store) -> None:
    """In a dry run, each recipient is recorded and no resolved notice is sent."""
    wall = Recorder("wall")
    async with working(store, wall, dry_run=True):
        await fact(store, OPENED, violation("v1"))

        async def recorded() -> bool:
            return [row.outcome for row in await deliveries(store)][:1] == ["dry-run"]

        await eventually(recorded)
        (first, *_) = await deliveries(store)
    assert (first.recipient, first.detail) == ("bob", "opened by wall")
    assert wall.given == []


async def test_failures_are_told_to_administrators_once(store: Store) -> None:
    """A failure of a GPU or the scanner is reported once, also if its event is repeated."""
    email = Recorder("email")
    async with working(store, email):
        await event(store, "gpu.failed", "gpu/3", index=3, reason="GPU is lost")
        await made(store, "gpu-failed admins")
        await event(store, "gpu.failed", "gpu/3", index=3, reason="GPU is lost")
        await event(store, "scanner.stalled", "scanner", reason="driver mismatch", remedy="reboot")
        _, stalled = await made(store, "gpu-failed admins", "stalled admins")
        await eventually(lambda: _is(len(email.given), 2))
        await event(store, "gpu.recovered", "gpu/3", index=3)
        *_, recovered = await made(store, "gpu-failed admins", "stalled admins", "gpu-recovered admins")
        await eventually(lambda: _is(len(email.given), 3))
    assert stalled.incident
    assert recovered.incident
    assert (stalled.incident.reason, stalled.incident.remedy) == ("driver mismatch", "reboot")
    assert (recovered.incident.reason, bool(recovered.incident.ended)) == ("GPU is lost", True)


async def test_a_channel_that_fails_is_told_by_another(store: Store) -> None:
    """If the mail server is down, administrators are notified on terminals."""
    wall, email = Recorder("wall"), Recorder("email", "retry")
    async with working(store, wall, email, steps=[step("0s", "email", "offender")]):
        await fact(store, OPENED, violation("v1"))
        _, failing = await made(store, "opened offender", "channel-failing admins")
        await eventually(lambda: _is(len(wall.given), 1))
    assert failing.channels == ("wall",)
    assert failing.incident
    assert failing.incident.subject == "channel/email"
    assert "as told" in failing.incident.reason


async def test_users_hear_of_their_reservations(store: Store) -> None:
    """Granted, expiring and released reservations cause one notice each, also if the event is read twice."""
    wall = Recorder("wall")
    now_ms = await store.now_ms()
    held = {"id": "r1", "kind": "manual", "user": "bob", "uid": 1001, "gpus": [1], "started": rfc3339(now_ms)}
    async with working(store, wall):
        await event(store, "reservation.created", "reservation/r1", **held, queued=rfc3339(now_ms - 60_000))
        await event(
            store, "reservation.expiring", "reservation/r1", **held, expires=rfc3339(now_ms + 900_000)
        )
        await event(store, "reservation.created", "reservation/r2", **{**held, "id": "r2"})
        await event(store, "reservation.released", "reservation/r1", **held, reason="admin", by="root")
        found = await made(store, "granted offender", "expiring offender", "released offender")
        await eventually(lambda: _is(len(wall.given), 3))
    assert {one.person for one in found} == {"bob"}
    assert found[1].deadline == rfc3339(now_ms + 900_000)


async def test_poison_on_the_events_stops_nobody(store: Store) -> None:
    """An unreadable reservation becomes a dead letter, and the next one is announced."""
    held = {"id": "r1", "kind": "manual", "user": "bob", "uid": 1, "gpus": [1], "started": "x"}
    async with working(store, Recorder("wall")):
        await event(store, "reservation.released", "reservation/r1", **{**held, "gpus": "all"})
        await event(store, "reservation.created", "reservation/r1", **held, queued="yesterday")
        await event(store, "reservation.released", "reservation/r1", **held, reason="admin", by="root")
        await made(store, "released offender")
        assert await store.redis.xlen(store.keys.deadletters) == 2


async def test_a_silence_that_ends_lets_the_notice_go(store: Store) -> None:
    """The end of a silence wakes the dispatcher."""
    until = await store.now_ms() + 3_600_000
    one = Silence(id="s1", by="root", by_uid=0, since="x", until="x", until_ms=until, reason="r", user="bob")
    await store.redis.hset(store.keys.silences, "s1", msgspec.json.encode(one).decode())
    async with working(store, Recorder("wall")):
        await fact(store, OPENED, violation("v1"))
        await fact(store, OPENED, violation("v2", 1, user="eve", key="uid:1002", uid=1002, person="eve"))
        (told,) = await made(store, "opened offender")
        assert told.user == "eve"
        await store.redis.hdel(store.keys.silences, "s1")
        await event(store, "silence.ended", "silence/s1", **msgspec.to_builtins(one))
        *_, late = await made(store, "opened offender", "opened offender")
    assert late.user == "bob"


async def test_a_digest_is_sent_when_it_is_due_and_once(store: Store) -> None:
    """The digest covers the time since the last one, and the next one is scheduled."""
    email = Recorder("email")
    daily = Digest(every="daily", at="08:00", repeater=2)
    keys = store.keys
    async with working(store, email, steps=[step("0s", "email", "offender")], digest=daily):
        for name in ("v1", "v2"):
            await fact(store, OPENED, violation(name, since=rfc3339(await store.now_ms())))
            await fact(store, CLOSED, violation(name, closed=rfc3339(await store.now_ms()), reason="stopped"))

        async def planned() -> bool:
            return await store.redis.zscore(keys.due, "digest") is not None and len(email.given) >= 2

        await eventually(planned)
    due: Any = await store.redis.zscore(keys.due, "digest")
    assert due > await store.now_ms()
    await store.redis.zadd(keys.due, {"digest": await store.now_ms() - 1000})
    async with working(store, email, steps=[step("0s", "email", "offender")], digest=daily):
        await eventually(lambda: _is(email.given[-1].kind, "digest"))
        again: Any = await store.redis.zscore(keys.due, "digest")
    notice = email.given[-1]
    assert notice.digest
    assert [(one.user, one.violations, one.unreached) for one in notice.digest.users] == [("bob", 2, 0)]
    assert notice.digest.repeaters == ("bob",)
    assert again == due
    assert [one.kind for one in email.given].count("digest") == 1


async def test_too_many_are_not_ended_within_the_hour(store: Store) -> None:
    """The limit on ending processes is shared in Redis: of three users, one is ended now."""
    rules = Terminate(enabled=True, dry_run=False, after_notices=1, max_per_hour=1)
    steps = [step("0s", "wall", "offender"), step("0s", "terminate", "offender")]
    async with working(store, Recorder("wall"), steps=steps, terminate=rules):
        for uid in (1001, 1002, 1003):
            one = violation(f"v{uid}", uid, user=f"u{uid}", key=f"uid:{uid}", uid=uid, person=f"u{uid}")
            await fact(store, OPENED, one)

        async def settled() -> bool:
            kinds = [one.kind for one in await notices(store)]
            due: Any = await store.redis.zrange(store.keys.due, 0, -1, withscores=True)
            later = [score for _, score in due if score > await store.now_ms() + 500_000]
            return kinds.count("opened") == 3 and kinds.count("terminate") == 1 and len(later) >= 2

        await eventually(settled)
    assert await store.redis.zcard(store.keys.terminations) == 1
