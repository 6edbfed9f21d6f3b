"""Turns events into notices: about violations (one episode per user), failures and reservations.

Each step is computed from the previous state and committed only if that state is unchanged. The same script
stores the notices and acknowledges the events, so a crash neither loses nor duplicates a notice, and two
dispatchers do not interfere. The timers are in Redis.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.config.settings import Settings
from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import Delivery
from canhazgpu.events.redis_client.keys import GROUP_DISPATCHER
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.violations import Violation
from canhazgpu.workers.consumer import LONGEST_BLOCK, Backoff, Consumer, Entry
from canhazgpu.workers.dispatch import digest, escalation, incidents
from canhazgpu.workers.dispatch.drafts import Draft, apply_quiet_hours
from canhazgpu.workers.dispatch.episodes import Episode, Fact
from canhazgpu.workers.dispatch.incidents import Change, IncidentState
from canhazgpu.workers.dispatch.policy import Policy, next_digest
from canhazgpu.workers.dispatch.reservation_notices import announce, may_concern
from canhazgpu.workers.dispatch.stream_history import material
from canhazgpu.workers.dispatch.suppression import suppression
from canhazgpu.workers.state_owner import check_owner

COMMIT = Script("canhazgpu.workers.dispatch", "commit")
INCIDENT = "incident "  # Prefix of the states of incidents; other states are `digest` or the key of a user.
AGAIN_MS = 1_000
DONE, CHANGED, TOO_MANY = 1, 0, 2  # The answers of the script.

# Takes the old state (JSON or None); returns the new state, its next due time, and the notices.
Step: TypeAlias = Callable[[bytes], tuple[bytes, int | None, list[Draft]]]


class Dispatcher:
    """The consumer of events that decides who is notified, of what, and when."""

    def __init__(self, settings: Settings, store: Store, name: str) -> None:
        """Join the group `dispatcher` of three streams as `name`."""
        self._store, self._keys = store, store.keys
        self._policy = Policy.of(settings)
        self._wake = anyio.Event()

        def member(stream: str) -> Consumer:
            return Consumer(store, stream, GROUP_DISPATCHER, name)

        self._violations, self._events = member(store.keys.violations), member(store.keys.events)
        self._deliveries = member(store.keys.deliveries)

    @property
    def consumers(self) -> "tuple[tuple[Consumer, Callable[[list[Entry]], Any]], ...]":
        """The consumers and their handlers."""
        return (
            (self._violations, self.take_facts),
            (self._events, self.take_events),
            (self._deliveries, self.take_deliveries),
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; sleep while there is no event and nothing is due."""
        async with anyio.create_task_group() as tasks:
            for consumer, take in self.consumers:
                await tasks.start(consumer.run, take, _nothing_due)
            tasks.start_soon(self._timers)
            task_status.started()

    async def _timers(self) -> None:
        patience = Backoff(self._store)
        while True:
            self._wake = anyio.Event()
            try:
                pause = await self.do_due()
                patience.reset()
            except StoreDown as down:
                await patience.wait(down)
                continue
            with anyio.move_on_after(pause):
                await self._wake.wait()

    async def do_due(self) -> float:
        """Take all steps that are due; return the seconds until the next one is."""
        await self._plan_digest()
        while True:
            rows = await self._store.ask(self._store.redis.zrange(self._keys.due, 0, 0, withscores=True))
            if not rows:
                return LONGEST_BLOCK
            name, due_ms = rows[0]
            left_ms = float(due_ms) - await self._store.now_ms()
            if left_ms > 0:
                return min(LONGEST_BLOCK, left_ms / 1000)
            await self._advance_if_due(name.decode())  # It is no longer due, or later.

    async def take_facts(self, entries: list[Entry]) -> None:
        """Apply violation events, grouped by user."""
        by_user: dict[str, list[tuple[str, Fact]]] = defaultdict(list)
        for entry in entries:
            if not entry.event.type.startswith("canhazgpu.violation."):
                await self._violations.acknowledge(entry.id)
                continue
            violation = await self._convert(self._violations, entry, Violation)
            if violation:
                by_user[violation.key].append((entry.id, (entry.event.type, violation)))
        for name, rows in by_user.items():
            acks = [entry for entry, _ in rows]
            await self._advance_episode(name, [fact for _, fact in rows], self._keys.violations, acks)

    async def take_deliveries(self, entries: list[Entry]) -> None:
        """Apply delivery attempts to their episodes and to the incidents of channels."""
        for entry in entries:
            attempt = await self._convert(self._deliveries, entry, Delivery)
            if attempt is None:
                continue
            if attempt.serial and not attempt.group.startswith(INCIDENT):
                await self._advance_episode(attempt.group, [attempt])
            change = incidents.channel_change(attempt)
            if change:
                await self._advance_incident(f"channel/{attempt.channel}", [change])
            await self._deliveries.acknowledge(entry.id)

    async def take_events(self, entries: list[Entry]) -> None:
        """Handle events about reservations and failures; check all states if notices may be due now."""
        for entry in entries:
            event = entry.event
            kind = event.type.removeprefix("canhazgpu.")
            if kind in ("gpu.failed", "gpu.recovered", "scanner.stalled", "scanner.resumed"):
                await self._advance_incident(await self._incident(event), [_change(kind, event)])
            if kind.startswith("silence.") or kind == "gpu.recovered":
                for name in await self._episodes():
                    await self._advance_episode(name, [])
            if kind.startswith(("reservation.", "booking.")):
                await self._announce(entry)
                continue
            await self._events.acknowledge(entry.id)

    async def _announce(self, entry: Entry) -> None:
        try:
            if not may_concern(entry.event, self._policy):
                await self._events.acknowledge(entry.id)
                return
            drafts = announce(entry.event, await self._store.now_ms(), self._policy)
        except (msgspec.ValidationError, ValueError) as error:
            await self._bury(self._events, entry, error)
            return
        await self._commit("", lambda _: (b"", None, drafts), self._keys.events, [entry.id])

    async def _convert(self, consumer: Consumer, entry: Entry, kind: type[Any]) -> Any:
        """Return the decoded entry, or None if it was moved to the dead letters."""
        try:
            return msgspec.convert(entry.event.data, kind)
        except msgspec.ValidationError as error:
            await self._bury(consumer, entry, error)
            return None

    async def _bury(self, consumer: Consumer, entry: Entry, error: Exception) -> None:
        fields = {name.encode(): value for name, value in entry.event.to_fields().items()}
        await consumer.bury(entry.id, str(error), fields)

    async def _advance_if_due(self, name: str) -> None:
        if name == digest.GROUP:
            await self._send_digest()
        elif name.startswith(INCIDENT):
            await self._advance_incident(name.removeprefix(INCIDENT), [])
        else:
            await self._advance_episode(name, [])

    async def _episodes(self) -> list[str]:
        names = await self._store.ask(self._store.redis.hkeys(self._keys.groups))
        return [
            name.decode() for name in names if not name.startswith(INCIDENT.encode()) and name != b"digest"
        ]

    async def _advance_episode(
        self, name: str, facts: list[Fact], stream: str = "", acks: Sequence[str] = ()
    ) -> None:
        silences, acknowledged = await suppression(self._store)
        now_ms = await self._store.now_ms()

        def step(text: bytes, *, may_terminate: bool = True) -> tuple[bytes, int | None, list[Draft]]:
            before = msgspec.json.decode(text, type=Episode) if text else None
            after, drafts = escalation.advance(
                before,
                facts,
                now_ms,
                self._policy,
                silences,
                acknowledged=acknowledged,
                may_terminate=may_terminate,
            )
            return _state(after, now_ms, drafts)

        if await self._commit(name, step, stream, acks) == TOO_MANY:
            structlog.get_logger().warning("terminate_deferred", user=name, reason="too many within the hour")
            await self._commit(name, partial(step, may_terminate=False), stream, acks)

    async def _incident(self, event: Event) -> str:
        """Return the name of an incident's state. For a GPU it is the UUID, because indices change."""
        name = f"gpu/{event.data.get('uuid') or ''}"
        if not event.subject.startswith("gpu/") or name == "gpu/":
            return event.subject
        # An incident from an older version ends under its old name.
        old = await self._store.ask(self._store.redis.hexists(self._keys.groups, INCIDENT + event.subject))
        return event.subject if old else name

    async def _advance_incident(self, subject: str, changes: list[Change]) -> None:
        now_ms = await self._store.now_ms()

        def step(text: bytes) -> tuple[bytes, int | None, list[Draft]]:
            before = msgspec.json.decode(text, type=IncidentState) if text else None
            after, drafts = incidents.advance(subject, before, changes, now_ms, self._policy)
            return _state(after, now_ms, drafts)

        await self._commit(INCIDENT + subject, step)

    async def _plan_digest(self) -> None:
        """Schedule the next digest as configured."""
        notices, now_ms = self._policy.notices, await self._store.now_ms()
        due_ms = next_digest(notices.digest, notices.quiet.timezone, now_ms)
        planned = await self._store.ask(self._store.redis.zscore(self._keys.due, digest.GROUP))
        if due_ms is None:
            if planned is not None:
                await self._commit(digest.GROUP, lambda _: (b"", None, []))
        elif planned is None or now_ms < planned != due_ms:
            await self._commit(digest.GROUP, lambda text: (text or str(now_ms).encode(), due_ms, []))

    async def _send_digest(self) -> None:
        notices, now_ms = self._policy.notices, await self._store.now_ms()
        due_ms = next_digest(notices.digest, notices.quiet.timezone, now_ms)
        since = await self._store.ask(self._store.redis.hget(self._keys.groups, digest.GROUP))
        since_ms = int(since or now_ms)
        found = digest.summarise(
            await material(self._store, since_ms), since_ms, now_ms, notices.digest.repeater
        )
        drafts = apply_quiet_hours(digest.draft(found, self._policy), now_ms, self._policy)
        await self._commit(digest.GROUP, lambda _: (str(now_ms).encode(), due_ms, drafts))

    async def _commit(self, name: str, step: Step, stream: str = "", acks: Sequence[str] = ()) -> int:
        """Take one step of the state `name`; return DONE or TOO_MANY."""
        keys, store = self._keys, self._store
        names = [keys.sequence, keys.groups, keys.due, keys.notices, stream or keys.violations, keys.events]
        while True:
            before: bytes = await store.ask(store.redis.hget(keys.groups, name)) or b""
            after, due_ms, drafts = step(before)
            if not (before or after or drafts or acks):
                return DONE
            limit = self._policy.terminate.max_per_hour
            args = [keys.host, name, before, after, "" if due_ms is None else due_ms, GROUP_DISPATCHER]
            args += [msgspec.json.encode(list(acks)), limit, *(draft.text for draft in drafts)]
            await check_owner(store)
            answer = int(await store.run(COMMIT, [*names, keys.terminations], args))
            if answer != CHANGED:
                break
        if answer == DONE:
            for draft in drafts:
                structlog.get_logger().info(
                    "notice_created", kind=draft.kind, user=draft.user, audience=draft.audience
                )
            self._wake.set()
        return answer


def _state(
    after: Episode | IncidentState | None, now_ms: int, drafts: list[Draft]
) -> tuple[bytes, int | None, list[Draft]]:
    """Return the arguments to commit. A state is never due again immediately."""
    if after is None:
        return b"", None, drafts
    due_ms = after.due_ms
    if due_ms is not None and due_ms <= now_ms:
        due_ms = now_ms + AGAIN_MS
    return msgspec.json.encode(after), due_ms, drafts


async def _nothing_due() -> float:
    return LONGEST_BLOCK


def _change(kind: str, event: Event) -> Change:
    if kind.endswith(("recovered", "resumed")):
        return Change(time=event.time, called=event.subject)
    reason = str(event.data.get("reason") or "it does not answer")
    remedy = str(event.data.get("remedy") or "check nvidia-smi and the kernel log")
    return Change(time=event.time, reason=reason, remedy=remedy, called=event.subject)
