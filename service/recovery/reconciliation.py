"""Compares Redis with the journal, and restores acknowledged reservations that Redis has lost.

Redis may be wiped, restored from a backup, failed over or replaced. The daemon's journal has the reservations
that were acknowledged. No GPU is allocated before the two agree: the scripts refuse to work on data with
another name, or from before the last known event (`FencingToken`).
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.server_pool import ServerChanged
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.events.reservations import Record
from canhazgpu.service.recovery.reconciliation_plan import (
    Plan,
    RedisState,
    Restoration,
    apply_reply,
    dataset_condition,
    decode_card,
    decode_sequence,
    digest_of,
    fully_released_id,
    is_process_alive,
    merge_ended_ids,
    plan,
    restore_argument,
    tolerate_damaged_sequence,
    translate_indices,
    without_volatile_fields,
)
from canhazgpu.service.storage import records as storage_records
from canhazgpu.service.storage.journal import Journal, State
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

RESTORE = Script("canhazgpu.service.recovery", "restore")
AGAIN = 0.2  # Seconds until a change that failed because Redis was down is retried.
ALONE = "reservations are only as safe as Redis"


class Reconciler:
    """Writes the journal, and restores Redis from it. Only one `sync` runs at a time."""

    def __init__(self, store: Store, journal: Journal) -> None:
        """Store the parameters; nothing is read yet."""
        self._store, self._journal = store, journal
        self._state: State | None = None
        self._written: State | None = None  # What of it is on the disk.
        self._indices: list[int] = []
        self._lock = anyio.Lock()
        self._asked = self._done = self._restorations = 0
        self._wanted = anyio.Event()
        # Makes sure that the state belongs to this service; raises StoreDown otherwise.
        self.hold: Callable[[], Awaitable[None]] | None = None
        self.restored: Callable[[Iterable[Record]], None] = lambda _: None  # Called with what was restored.
        self.last: Restoration | None = None
        self.damage: str | None = None  # What was wrong with the journal at the start, if anything.
        self.weakness: str | None = None  # Why the journal cannot be written, if so.

    async def start(self) -> None:
        """Read the journal; from now on scripts refuse to work on data without its content."""
        try:
            self.damage = await anyio.to_thread.run_sync(self._journal.keep_damaged)
            self._state = await anyio.to_thread.run_sync(self._journal.read)
        except OSError as error:
            self._failed(error)
        if self.damage:
            structlog.get_logger().error("journal_damaged", reason=self.damage)
        if rolled_back := self._journal.rolled_back:
            structlog.get_logger().error("state_rolled_back", reason=rolled_back)
            self.damage = "; ".join(filter(None, [self.damage, rolled_back]))
        self._store.recover = self.sync
        self._written = (state := self._state) and without_volatile_fields(state)
        self._store.set_fencing_token(state.dataset if state else "", state.sequence if state else 0)
        self._store.connected = self.note
        self.note()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write changes that no caller waits for until cancelled. Reports started after the first attempt."""
        await self.start()
        try:
            await self._compare()
            task_status.started()
            while True:
                await self._wanted.wait()
                await self._keep_in_place()
                self._wanted = anyio.Event()
                await self._compare()
        finally:
            with anyio.CancelScope(shield=True):
                await self._keep_in_place()

    async def _compare(self) -> None:
        try:
            await self.sync()
        except StoreDown as down:
            self._store.report_down(down)
            self._wanted.set()
            await anyio.sleep(AGAIN)

    @property
    def journal_weakness(self) -> str | None:
        """Why the journal or its copy cannot be written, if so."""
        return self.weakness or self._journal.weakness

    @property
    def journal_state(self) -> State | None:
        """The content of the journal, or None before it was read."""
        return self._state

    def note(self) -> None:
        """Record that reservations may have changed; the journal is updated soon."""
        self._wanted.set()

    def check(self) -> None:
        """Have the journal written again if somebody replaced it, or if its copy could not be written."""
        if self._journal.weakness or self._journal.replaced():
            self._wanted.set()

    async def sync(self) -> None:
        """Return when Redis and the journal have the same content.

        Calls during a running `sync` share the next one. Raises StoreDown.
        """
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            if self._done < ticket:
                upto = self._asked
                await self._sync()
                self._done = upto

    def begin(self) -> Callable[[Mapping[str, Any]], Awaitable[bool]]:
        """Return a function to await with the reply of an allocator script that is called now.

        It returns when the reply can be sent; False if Redis lost the change before that. Raises StoreDown.
        """
        return partial(self._acknowledge, self._restorations, self._store.servers)

    async def _acknowledge(self, restorations: int, servers: int, reply: Mapping[str, Any]) -> bool:
        granted = reply.get("reservation")
        record = msgspec.convert(granted, Record) if granted else None
        async with self._lock:
            state = self._state
            if state is not None:
                state = self._state = apply_reply(state, reply)
                fits = record and reply.get("count") == len(state.records.keys() | {record.id})
                fits = fits and reply.get("promised", "") == state.promised
                same = (restorations, servers) == (self._restorations, self._store.servers)
                if record is not None and fits and same:
                    number = max(state.sequence, int(record.id.rpartition("-")[2]))
                    records = {**state.records, record.id: record}
                    await self._write(msgspec.structs.replace(state, sequence=number, records=records))
                    return True
        await self.sync()
        return record is None or self._state is None or record.id in self._state.records

    async def _sync(self) -> None:
        state, over = self._state, set[str]()
        while True:
            servers = self._store.servers
            found = await self._read(state.ledger if state else None)
            wiped = not (found.owner or found.dataset or self._store.refusal)  # `restore` makes it ours.
            if self.hold and found.owner != self._store.owner and not wiped:
                await self.hold()
                continue
            state = translate_indices(
                state or State(dataset=found.dataset or secrets.token_hex(16)), found.cards
            )
            wanted = plan(state, found, found.ended, is_process_alive)
            over |= {*wanted.ended_meanwhile, *(state.records.keys() & found.ended)}
            if not wanted.needed:
                if servers == self._store.servers:
                    break
                continue  # Another server answers now; the reply may be from the previous one.
            with self._store.only_on(servers):
                over |= await self._restore(state, wanted, found)  # Check again: it may have been lost again.
            lasting = {name: one for name, one in state.records.items() if name not in over}
            state = msgspec.structs.replace(state, records=lasting, ended=merge_ended_ids(state, over))
        new = State(
            dataset=state.dataset,
            sequence=found.sequence,
            ledger=found.ledger,
            records=dict(found.records),
            requests=dict(found.requests),
            bookings=dict(found.bookings),
            promised=found.promised,
            ended=merge_ended_ids(state, over),
            cards=dict(found.cards),
        )
        self._store.compared = servers
        await self._write(new)

    async def _keep_in_place(self) -> None:
        """Write the journal again if somebody replaced it: what is in memory is the truth."""
        async with self._lock:
            if self._state and self._journal.replaced():
                await self._write(self._state)
            elif self._journal.weakness:
                await anyio.to_thread.run_sync(self._journal.write_copy)

    async def _write(self, state: State) -> None:
        self._state, content = state, without_volatile_fields(state)
        self._store.set_fencing_token(state.dataset, state.sequence)
        if content == self._written and self._journal.is_in_place() and not self.weakness:
            return
        if path := self._journal.replaced():
            structlog.get_logger().error("journal_replaced", path=str(path))
        try:
            await anyio.to_thread.run_sync(self._journal.write, state)
        except OSError as error:
            self._failed(error)
            return
        self._written = content
        if self.weakness:
            structlog.get_logger().info("journal_back", path=str(self._journal.path))
            self.weakness = None

    def _failed(self, error: OSError) -> None:
        reason = f"the journal {self._journal.path} cannot be written: {error.strerror or error}: {ALONE}"
        if self.weakness != reason:
            structlog.get_logger().warning("journal_failed", reason=reason)
        self.weakness = reason

    async def _read(self, ledger_since: str | None) -> RedisState:
        store, keys = self._store, self._store.keys
        try:
            while True:
                async with store.redis.pipeline(transaction=True) as pipe:
                    pipe.time()
                    pipe.hmget(keys.scan, "dataset", "owner", "windows")
                    pipe.get(keys.sequence)
                    pipe.xrevrange(keys.ledger, count=1)
                    pipe.xrange(keys.ledger, f"({ledger_since}" if ledger_since else "+")
                    pipe.hgetall(keys.reservations)
                    pipe.hgetall(keys.queue)
                    pipe.hgetall(keys.bookings)
                    pipe.zrange(keys.gpus, 0, -1)
                    for index in self._indices:
                        pipe.hmget(keys.gpu(index), "uuid", "drained", "unmanaged")
                    replies = tolerate_damaged_sequence(await pipe.execute(raise_on_error=False))
                    clock, named, sequence, ledger, over, held, queue, booked, known, *cards = replies
                indices = [int(index) for index in known]
                if indices == self._indices:
                    break
                self._indices = indices
        except UNREACHABLE as error:
            raise StoreDown(unreachable(error)) from error
        dataset, owner, windows = (text and text.decode() for text in named)
        return RedisState(
            now_ms=int(clock[0]) * 1000 + int(clock[1]) // 1000,
            dataset=dataset or None,
            owner=owner or "",
            sequence=decode_sequence(sequence),
            ledger=ledger[0][0].decode() if ledger else "0-0",
            ended=frozenset(name for _, fields in over if (name := fully_released_id(fields))),
            records={one.id: one for one in storage_records.records(held)},
            requests={one.id: one for one in storage_records.requests(queue)},
            bookings={one.id: one for one in storage_records.bookings(booked)},
            promised=digest_of(windows),
            cards={str(index): decode_card(*row) for index, row in zip(indices, cards, strict=True)},
        )

    async def _restore(self, state: State, wanted: Plan, found: RedisState) -> set[str]:
        """Restore what is wanted; return the reservations that lost all of their GPUs in conflicts."""
        keys = self._store.keys
        wished = (gpu for one in wanted.restore for gpu in one.gpus)
        indices = sorted({*self._indices, *map(int, state.cards), *wished})
        promised = restore_argument(state, wanted, found, self._store.owner)
        try:
            text = await self._store.repair(
                RESTORE,
                [*host_keys(keys), keys.bookings, *map(keys.gpu, indices)],
                [keys.host, AllocationPolicy().text, msgspec.json.encode(promised)],
            )
        except ServerChanged:
            return set()  # It may have all of it.
        if text is None:
            return set()  # A scan has renumbered the cards since they were read.
        reply: Any = msgspec.json.decode(text)
        if not wanted.lost:
            if self._state is not None:
                structlog.get_logger().warning("redis_data_changed", dataset=dataset_condition(state, found))
            self.restored(())
            return set()
        restored, dropped = list(reply["restored"]), [*reply["dropped"], *wanted.ended_meanwhile]
        facts = {"restored": restored, "dropped": dropped, "conflicts": list(reply["conflicts"])}
        self.last = Restoration.of(found.now_ms, facts)
        structlog.get_logger().error("redis_lost_state", **facts, dataset=dataset_condition(state, found))
        self._restorations += 1
        self.restored([one for one in wanted.restore if one.id in restored])
        return {one.id for one in wanted.restore} - set(restored)
