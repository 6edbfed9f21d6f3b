"""The real dispatcher and delivery in the night in which the hour from two to three is repeated."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import pytest
from month.clock import TimedStore
from support.eventually import eventually

from canhazgpu.config.channels import Email, Notify
from canhazgpu.config.notices import Digest, Notices, Quiet, Step
from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import Notice
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.events.violations import CLOSED, OPENED, Violation
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.workers.delivery import DeliveryWorker
from canhazgpu.workers.dispatch import dispatcher, policy
from canhazgpu.workers.dispatch.dispatcher import Dispatcher

pytestmark = pytest.mark.anyio
MINUTE, HOUR = 60_000, 3_600_000
QUIET = Quiet(hours="20:00-02:30", timezone="Europe/Berlin", channels=["email"])
FACTS = 20


def ms(text: str) -> int:
    """Return a UTC time of that night."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# By the clock on the wall: until 02:30 of summer, then from 02:00 of winter, which is put back, to 02:30.
SILENT = [(ms("2026-10-24 18:00"), ms("2026-10-25 00:30")), (ms("2026-10-25 01:00"), ms("2026-10-25 01:30"))]
SECOND = ms("2026-10-25 01:15")  # 02:15 for the second time.


class Counting(TimedStore):
    """A store on the test's clock that counts steps of the dispatcher, and fails after `most`."""

    commits, most = 0, 1000

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script."""
        self.commits += script.name == "commit"
        assert self.commits <= self.most, "it is looked at without end"
        return await super().run(script, keys, args)


class Mailbox:
    """A channel that respects quiet hours; records notices with their time."""

    name = "email"

    def __init__(self, store: Counting) -> None:
        """Read the time from the store."""
        self._store = store
        self.taken: list[tuple[int, str, str]] = []

    async def recipients(self, notice: Notice) -> list[str]:
        """Return the person, or the administrators."""
        return [notice.person or "admins"]

    async def deliver(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        """Record the notice."""
        del first
        self.taken += [(self._store.clock_ms, notice.kind, one) for one in recipients]
        return [Outcome(one, "delivered") for one in recipients]


def settings(digest: Digest | None = None) -> Settings:
    """Mail at once, but not in quiet hours."""
    notices = Notices(
        group_wait=0.0,
        resolve_hold=60.0,
        quiet=QUIET,
        digest=digest or Digest(every="off"),
        admin_channels=["email"],
        steps=[Step(after="0s", channels=["email"], to=["offender"])],
    )
    return Settings(host="h", notices=notices, notify=Notify(email=Email(enabled=True)))


@pytest.fixture
async def counting(store: Store, redis_url: str) -> AsyncIterator[Counting]:
    """The state of a new host, on the test's clock."""
    made = Counting(redis_url, store.keys.host)
    yield made
    await made.close()


async def put(store: Counting, kind: str, uid: int) -> None:
    """Open or close a violation of a user."""
    one = Violation(
        violation=f"v{uid}",
        kind="unreserved",
        gpu=uid % 8,
        gpu_uuid=f"GPU-{uid % 8}",
        gpu_name="H100",
        key=f"uid:{uid}",
        user=f"user{uid}",
        uid=uid,
        person=f"user{uid}",
        evidence="uid",
        since=rfc3339(store.clock_ms),
        memory_mb=1024,
        peak_memory_mb=1024,
        closed=rfc3339(store.clock_ms) if kind == CLOSED else None,
        reason="stopped" if kind == CLOSED else None,
    )
    event = Event(id="1-1", source="s", type=kind, subject="s", time=one.since, data=msgspec.to_builtins(one))
    fields: Any = event.to_fields()
    await store.redis.xadd(store.keys.violations, fields)


async def test_nothing_is_mailed_in_quiet_hours_that_come_twice(counting: Counting) -> None:
    """With a violation every five minutes, each mail is sent at its earliest time outside quiet hours."""
    made = Dispatcher(settings(Digest(every="daily", at="02:10")), counting, "test")
    mails = Mailbox(counting)
    delivery = DeliveryWorker(counting, mails, "test")
    uids: dict[int, int] = {}
    began, end = ms("2026-10-24 23:00"), ms("2026-10-25 03:00")
    async with AsyncExitStack() as closing:
        for consumer in (delivery.consumer, *(one for one, _ in made.consumers)):
            closing.push_async_callback(consumer.close)
        for now in range(began, end, 5 * MINUTE):
            await counting.set_clock(now)
            counting.commits, counting.most = 0, 100  # Within one moment.
            uid = 1000 + (now - began) // MINUTE
            uids[uid] = now
            await put(counting, OPENED, uid)
            if uid - 10 in uids:
                await put(counting, CLOSED, uid - 10)
            for _ in range(3):  # What became of mails is taken in, and what follows from it.
                for consumer, take in made.consumers:
                    await take(await consumer.new(0))
                await made.do_due()
                await delivery.take(await delivery.consumer.new(0))
                await delivery.retry_due()
    assert [one for one in mails.taken if any(begin <= one[0] < end for begin, end in SILENT)] == []
    opened = {who: when for when, kind, who in mails.taken if kind == "opened"}
    for uid, begun in uids.items():
        end_of_quiet = next((end for begin, end in SILENT if begin <= begun < end), begun)
        over = begun + 10 * MINUTE <= end_of_quiet  # Nothing is left to be told of.
        assert opened.get(f"user{uid}") == (None if over else end_of_quiet), (uid, rfc3339(begun))
    digests = [when for when, kind, _ in mails.taken if kind == "digest"]
    assert digests == [ms("2026-10-25 00:30")]  # 02:10 for the first time is quiet still.


@pytest.mark.parametrize("wrong", [False, True], ids=["by the rules", "by a rule that is wrong"])
async def test_the_dispatcher_sleeps_while_nothing_is_due(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, *, wrong: bool
) -> None:
    """In the repeated 02:15 the dispatcher takes one step per fact, and does not spin."""
    if wrong:
        monkeypatch.setattr(policy, "quiet_until", lambda _, now_ms: now_ms - MINUTE)
        monkeypatch.setattr(dispatcher, "AGAIN_MS", HOUR)  # Longer than this test takes.
    woken = 0

    class Woken(Dispatcher):
        async def do_due(self) -> float:
            nonlocal woken
            woken += 1
            return await super().do_due()

    await counting.set_clock(SECOND)
    async with anyio.create_task_group() as tasks:
        await tasks.start(Woken(settings(), counting, "test").run)
        for uid in range(1001, 1001 + FACTS):
            await put(counting, OPENED, uid)

            async def told(count: int = uid - 1000) -> bool:
                groups: Any = await counting.redis.hlen(counting.keys.groups)
                return int(groups) == count

            await eventually(told)
        tasks.cancel_scope.cancel()
    assert counting.commits == FACTS
    assert woken <= FACTS + 1
    due: Any = await counting.redis.zrange(counting.keys.due, 0, -1, withscores=True)
    expected = SECOND + HOUR if wrong else SILENT[1][1]
    assert {moment for _, moment in due} == {expected}
    assert await counting.redis.xlen(counting.keys.notices) == 0
