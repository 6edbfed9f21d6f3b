"""Delivers the notices of one channel: at least once, with retries at growing intervals, then a dead letter.

A failing channel does not delay others, because each has its own consumer group. The attempts and the
finished recipients are stored in Redis, so a restart continues where it stopped.
"""

import random
from collections.abc import Sequence

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.events.notices import REACHED, Notice
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.timestamps import ms_of
from canhazgpu.notifiers.channel import Channel, is_for_channel
from canhazgpu.notifiers.outcome import Outcome
from canhazgpu.workers.consumer import LONGEST_BLOCK, Consumer, Entry
from canhazgpu.workers.state_owner import check_owner

SETTLE = Script("canhazgpu.workers", "settle")
RETRY_FIRST_MS, RETRY_LAST_MS = 1_000, 300_000
# Kinds that are sent only to recipients of the first notice.
ENDS = frozenset({"resolved", "resumed", "gpu-recovered", "channel-recovered"})
GIVE_UP_MS = 24 * 3600 * 1000


class Progress(msgspec.Struct, frozen=True):
    """The attempts for one notice. `since_ms`: the time of the first failed attempt, on Redis' clock."""

    episode: str
    attempt: int = 0
    left: tuple[str, ...] = ()
    since_ms: int = 0


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The consequences of an attempt. A `retry_ms` below 0 means that the notice is finished."""

    retry_ms: int = -1
    progress: Progress | None = None
    records: list[bytes] = []
    delivered: dict[str, str] = {}
    dead: list[list[str]] = []


class DeliveryWorker:
    """The worker of one channel."""

    def __init__(self, store: Store, channel: Channel, name: str, *, dry_run: bool = False) -> None:
        """Join the channel's consumer group as `name`. With `dry_run`, record attempts without sending."""
        self._store = store
        self._channel = channel
        self._dry_run = dry_run
        self.consumer = Consumer(store, store.keys.notices, channel.name, name)
        self._keys = store.keys

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; sleep while there is no notice and nothing to retry."""
        await self.consumer.run(self.take, self.retry_due, task_status)

    async def take(self, entries: list[Entry]) -> None:
        """Deliver new notices."""
        waiting = await self._waiting() if entries else {}
        for entry in entries:
            if entry.id not in waiting:
                await self._handle(entry)

    async def _waiting(self) -> dict[str, Progress]:
        rows = await self._store.ask(self._store.redis.hgetall(self._keys.progress(self._channel.name)))
        return {key.decode(): msgspec.json.decode(text, type=Progress) for key, text in rows.items()}

    async def retry_due(self) -> float:
        """Retry the notices that are due; return the seconds until the next one is."""
        retries = self._keys.retries(self._channel.name)
        while rows := await self._store.ask(self._store.redis.zrange(retries, 0, 0, withscores=True)):
            key, due_ms = rows[0]
            left_ms = float(due_ms) - await self._store.now_ms()
            if left_ms > 0:
                return min(LONGEST_BLOCK, left_ms / 1000)
            entry = await self.consumer.entry(key.decode())
            if entry is None:
                await self._settle(key.decode(), Settlement())
            else:
                await self._handle(entry)  # It was finished in the meantime, or is due later.
        return LONGEST_BLOCK

    async def _handle(self, entry: Entry) -> None:
        await check_owner(self._store)
        try:
            notice = msgspec.convert(entry.event.data, Notice)
        except msgspec.ValidationError as error:
            fields = {name.encode(): value for name, value in entry.event.to_fields().items()}
            await self.consumer.bury(entry.id, str(error), fields)
            await self._settle(entry.id, Settlement())
            return
        if not is_for_channel(notice, self._channel.name):
            await self._settle(entry.id, Settlement())
            return
        waiting = await self._waiting()
        before = waiting.pop(entry.id, Progress(notice.episode))
        early_ms = ms_of(notice.not_before) - await self._store.now_ms() if notice.not_before else 0
        if early_ms > 0:
            await self._settle(entry.id, Settlement(progress=before, retry_ms=early_ms))
            return
        earlier = [one for key, one in waiting.items() if _order(key) < _order(entry.id)]
        if notice.kind in ENDS and any(one.episode == notice.episode for one in earlier):
            # The notice that it resolves has not been delivered yet.
            await self._settle(entry.id, Settlement(progress=before, retry_ms=RETRY_FIRST_MS))
            return
        recipients = list(before.left) or await self._channel.recipients(notice)
        if notice.kind in ENDS:
            recipients = await self._notified_recipients(notice, recipients)
        elif not recipients:
            outcome = Outcome("", "nobody", "no recipient")
            record = self._record(notice, outcome, before.attempt + 1, final=True)
            await self._settle(entry.id, Settlement(records=[record]))
            return
        if recipients:
            await self._attempt(entry, notice, before, recipients)
        else:
            await self._settle(entry.id, Settlement())

    async def _notified_recipients(self, notice: Notice, recipients: list[str]) -> list[str]:
        """Return the recipients who were notified of the violations that have ended."""
        delivered = self._keys.delivered(self._channel.name)
        known = self._store.redis.hexists
        return [one for one in recipients if await self._store.ask(known(delivered, _field(notice, one)))]

    async def _attempt(self, entry: Entry, notice: Notice, before: Progress, recipients: list[str]) -> None:
        first = await self._first(notice, recipients)
        outcomes = await self._outcomes(notice, recipients, first)
        now_ms = await self._store.now_ms()
        since_ms = before.since_ms or now_ms
        expired = now_ms - since_ms > GIVE_UP_MS
        left = tuple(one.recipient for one in outcomes if one.verdict == "retry" and not expired)
        after = Progress(notice.episode, before.attempt + 1, left, since_ms)
        dead = [self._letter(entry, notice, one) for one in outcomes if _is_lost(one, expired=expired)]
        reached = {
            recipient
            for recipient in recipients
            for one in outcomes
            if one.verdict in REACHED and one.recipient.partition(":")[0] == recipient.partition(":")[0]
        }
        for one in outcomes:
            structlog.get_logger().info(
                "notice_delivery",
                notice=notice.notice,
                channel=self._channel.name,
                recipient=one.recipient,
                outcome=one.verdict,
                detail=one.detail,
            )
        settlement = Settlement(
            retry_ms=_pause_ms(after.attempt) if left else -1,
            progress=after,
            records=[self._record(notice, one, after.attempt, final=not left) for one in outcomes],
            delivered={_field(notice, one): _mark(notice) for one in reached},
            dead=dead,
        )
        await self._settle(entry.id, settlement)

    async def _outcomes(self, notice: Notice, recipients: list[str], first: str | None) -> Sequence[Outcome]:
        if self._dry_run:
            return [Outcome(one, "dry-run", f"{notice.kind} by {self._channel.name}") for one in recipients]
        try:
            return await self._channel.deliver(notice, recipients, first)
        except Exception as error:  # noqa: BLE001 - a notice that breaks its channel must not stop the others
            structlog.get_logger().exception("channel_broke", channel=self._channel.name)
            detail = f"{type(error).__name__} in the channel"
            return [Outcome(one, "failed", detail) for one in recipients]

    async def _first(self, notice: Notice, recipients: list[str]) -> str | None:
        fields = [_field(notice, one) for one in recipients]
        delivered = await self._store.ask(
            self._store.redis.hmget(self._keys.delivered(self._channel.name), fields)
        )
        return next((first.decode() for first in delivered if first), None)

    def _record(self, notice: Notice, outcome: Outcome, attempt: int, *, final: bool) -> bytes:
        return msgspec.json.encode(
            {
                "notice": notice.notice,
                "kind": notice.kind,
                "channel": self._channel.name,
                "recipient": outcome.recipient,
                "outcome": outcome.verdict,
                "attempt": attempt,
                "detail": outcome.detail,
                "episode": notice.episode,
                "group": notice.group,
                "serial": notice.serial,
                "audience": notice.audience,
                "final": final,
            }
        )

    def _letter(self, entry: Entry, notice: Notice, outcome: Outcome) -> list[str]:
        """Return the fields of a dead letter. When replayed, the notice goes to this recipient only."""
        narrowed = msgspec.structs.replace(notice, channel=self._channel.name, to=outcome.recipient)
        raw = {**entry.event.to_fields(), "data": msgspec.json.encode(narrowed)}
        about = {
            "stream": self._keys.notices,
            "entry": entry.id,
            "channel": self._channel.name,
            "recipient": outcome.recipient,
            "reason": outcome.detail,
            **{f"raw:{name}": value.decode() for name, value in raw.items()},
        }
        return [part for pair in about.items() for part in pair]

    async def _settle(self, entry: str, settlement: Settlement) -> None:
        channel, keys = self._channel.name, self._keys
        names = [keys.sequence, keys.notices, keys.deliveries, keys.progress(channel), keys.retries(channel)]
        names += [keys.delivered(channel), keys.deadletters]
        await check_owner(self._store)
        encode = msgspec.json.encode
        args: list[str | bytes | int] = [keys.host, channel, entry, encode(settlement.progress)]
        args += [settlement.retry_ms, encode(settlement.delivered), encode(settlement.dead)]
        args += settlement.records
        await self._store.run(SETTLE, names, args)


def _order(entry: str) -> tuple[int, ...]:
    """Return the sort key of a stream id."""
    return tuple(map(int, entry.split("-")))


def _field(notice: Notice, recipient: str) -> str:
    return f"{notice.episode} {recipient}"


def _mark(notice: Notice) -> str:
    return "" if notice.kind in ENDS else notice.notice


def _is_lost(outcome: Outcome, *, expired: bool) -> bool:
    return outcome.verdict == "failed" or (outcome.verdict == "retry" and expired)


def _pause_ms(attempt: int) -> int:
    longest = min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** min(attempt - 1, 20))
    return int(longest * random.uniform(0.7, 1.0))  # noqa: S311 - spreads load, guards nothing
