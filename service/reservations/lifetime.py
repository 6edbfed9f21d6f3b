"""Ends reservations: those of runs when their process ends, and manual ones when they expire.

A run is bound to one process by a pidfd, so its end is noticed immediately, and a reused pid is never
mistaken for it. At the start of the service, runs with a live process are watched again, and the others are
ended. While Redis is down nothing is released; this is done later.
"""

import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from canhazgpu.events.linux.processes import (
    Process,
    any_ended,
    open_process,
    process_tree,
    send,
    with_variable,
)
from canhazgpu.events.outbox import Notify
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.events.reservations import RUN, Record
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.reservations.detached_containers import containers_of, starting_containers

LOOK_AGAIN = 10.0  # Seconds between checks whether a run with live containers was released.
HEARTBEAT = 15.0  # Seconds between heartbeats of all runs.
AGAIN = 0.2  # Seconds until a change that failed because Redis was down is retried.
LONG, SURELY = 600.0, 0.9  # Nothing happens to a reservation of so many seconds in this part of them,
LATELY = 15.0  # if it is no older than this.
STARTING = 30.0  # Seconds for which an ended run waits for containers that are being started.
YOUNG = 60.0  # Seconds since their start.
SETTLING = 0.005  # Seconds between checks whether an ended run has been recorded.
TICKS = os.sysconf("SC_CLK_TCK")
RETURN_TIME = 15.0  # Seconds for waiting commands to reconnect to a restarted service.


class Lifetime:
    """Watches runs and expiry times, and ends reservations."""

    def __init__(  # noqa: PLR0913 - what it watches, whom it tells, and a setting
        self,
        store: Store,
        allocator: Allocator,
        scanner: Scanner,
        notify: Notify,
        persons: OrdinaryUsers,
        *,
        grace: float,
        warning: float = 0.0,
    ) -> None:
        """`notify` is called with a reservation and a notice kind (`timeout`) to notify its user.

        `persons` tells which uids only users have. `grace`: seconds between SIGINT and SIGKILL.
        `warning`: how long before the end it is announced.
        """
        self._grace, self._warning = grace, warning
        self._is_user = persons.could_include
        self._store = store
        self._allocator = allocator
        self._scanner = scanner
        self._notify = notify
        self._runs: dict[str, Process] = {}
        self._pidfds: dict[str, int] = {}  # Of their first processes, while these live.
        self._ending: set[str] = set()  # Runs whose first process has ended, until that is recorded.
        self._tasks: TaskGroup | None = None
        self._changed = anyio.Event()
        self._look_at = math.inf  # When expiry is to be looked at, on the monotonic clock.

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Resume watching existing reservations, then run until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._resume_all)
            tasks.start_soon(self._expire)
            tasks.start_soon(self._send_heartbeats)
            task_status.started()

    @property
    def runs(self) -> Mapping[str, Process]:
        """The first processes of live runs by reservation."""
        return self._runs

    def watch(self, record: Record, descriptor: int | None) -> None:
        """End a run when its process does; the pidfd stays the caller's. None: it has ended already."""
        self._start_watching(record, lambda _: None if descriptor is None else os.dup(descriptor))

    def _start_watching(self, record: Record, opened: Callable[[Process], int | None]) -> None:
        if self._tasks is None or record.pid is None or record.start is None:
            raise ValueError("a run has a process, and is watched by a service that runs")
        if record.id in self._runs:
            return
        process = self._runs[record.id] = Process(record.pid, record.start)
        try:
            own = opened(process)
        except OSError:
            self._tasks.start_soon(self._find, record, process)
        else:
            self._tasks.start_soon(self._follow, record, own)

    async def _find(self, record: Record, process: Process) -> None:
        """Watch a run as soon as there is a descriptor for its process."""
        while True:
            await anyio.sleep(AGAIN)
            with suppress(OSError):
                own = open_process(process)
                break
        await self._follow(record, own)

    def resume(self, record: Record) -> None:
        """Watch a run given only its record; if its process has ended, end it immediately."""
        if record.kind == RUN and record.ended_ms is None and record.pid and record.start:
            self._start_watching(record, open_process)

    async def settle(self, patience: float) -> None:
        """Wait until the end of each process that has ended is recorded, for at most `patience` seconds.

        A run that goes on in a container is not waited for.
        """
        with anyio.move_on_after(patience):
            while self._ending or any_ended(self._pidfds.values()):  # noqa: ASYNC110 - rarely, and a few times
                await anyio.sleep(SETTLING)

    def expiry_changed(self) -> None:
        """Record that the expiry of a manual reservation changed."""
        self._look_in(0.0)

    def plan_expiry(self, record: Record) -> None:
        """End a manual reservation when it expires.

        The script knows best when to look. It need not be asked about a long one that has just begun.
        """
        if record.expires_ms is None:
            return
        lasts = (record.expires_ms - record.started_ms) / 1000 - self._warning
        age = abs(time.time() - record.started_ms / 1000)  # Of two clocks, if Redis has another.
        self._look_in(lasts * SURELY if lasts > LONG and age < LATELY else 0.0)

    def _look_in(self, seconds: float) -> None:
        moment = time.monotonic() + seconds
        if moment < self._look_at:
            self._look_at = moment
            self._changed.set()

    async def _resume_all(self) -> None:
        await self._retry(self._allocator.adopt)
        records: list[Record] = []

        async def read() -> None:
            records[:] = await self._allocator.reservations()

        await self._retry(read)
        for record in records:
            self.resume(record)
        if records:
            structlog.get_logger().info("reservations_taken_up", count=len(records))
        await anyio.sleep(RETURN_TIME)

        async def forget() -> None:
            lost = [one.id for one in await self._allocator.waiting() if not one.attached]
            if lost:
                await self._allocator.leave(lost, "gone")

        await self._retry(forget)

    async def _follow(self, record: Record, descriptor: int | None) -> None:
        if descriptor is not None:
            self._pidfds[record.id] = descriptor
            try:
                async with anyio.create_task_group() as tasks:
                    if record.timeout_ms is not None:
                        tasks.start_soon(self._end_in_time, record, record.timeout_ms)
                    await anyio.wait_readable(descriptor)
                    tasks.cancel_scope.cancel()
            finally:
                del self._pidfds[record.id]
                os.close(descriptor)

        self._ending.add(record.id)
        await self._wait_for_containers(record)

        async def conclude() -> None:
            await self._allocator.conclude(record.id)

        await self._retry(conclude)
        self._runs.pop(record.id, None)
        self._ending.discard(record.id)
        self._scanner.request_scan()

    async def _wait_for_containers(self, record: Record) -> None:
        """Wait for containers that carry a run's name: they outlive the command that started them."""
        young = int((time.clock_gettime(time.CLOCK_BOOTTIME) - YOUNG) * TICKS)
        last_look = anyio.current_time() + STARTING
        while True:
            try:
                starting = await anyio.to_thread.run_sync(starting_containers, young)
                containers = await anyio.to_thread.run_sync(containers_of, record, self._is_user)
                descriptor = open_process(containers[0]) if containers else None
            except OSError:  # It cannot be told now.
                await anyio.sleep(AGAIN)
                continue
            if starting and not containers and anyio.current_time() < last_look:
                await anyio.sleep(AGAIN)
                continue
            if not containers:
                return
            self._ending.discard(record.id)
            if descriptor is not None:
                try:
                    with anyio.move_on_after(LOOK_AGAIN):
                        await anyio.wait_readable(descriptor)
                finally:
                    os.close(descriptor)
            if await self._current_record(record) is None:
                return

    async def _end_in_time(self, record: Record, timeout_ms: int) -> None:
        left = (record.started_ms + timeout_ms) / 1000 - time.time()  # After a restart: less than all of it.
        await anyio.sleep(min(max(0.0, left), timeout_ms / 1000))
        now = await self._current_record(record)
        if now is None:
            return
        root = self._runs[record.id]
        found = await anyio.to_thread.run_sync(_members, record, root)
        structlog.get_logger().info("timeout", reservation=record.id, processes=len(found))
        with suppress(StoreDown):
            await self._notify(now, "timeout")
        for process in found:
            send(process, signal.SIGINT)
        # What stays is ended for good, also when the first process has gone: it is not waited for here.
        if self._tasks:
            self._tasks.start_soon(self._kill_rest, record, root, found)

    async def _kill_rest(self, record: Record, root: Process, found: dict[Process, None]) -> None:
        await anyio.sleep(self._grace)
        if record.id in self._runs and await self._current_record(record) is None:
            return
        for process in found | await anyio.to_thread.run_sync(_members, record, root):
            send(process, signal.SIGKILL)

    async def _current_record(self, record: Record) -> Record | None:
        """Return the current reservation of a run; without one, the run continues without a time limit."""
        live: list[Record] = []

        async def read() -> None:
            live[:] = [one for one in await self._allocator.reservations() if one.id == record.id]

        await self._retry(read)
        return live[0] if live else None

    async def _expire(self) -> None:
        while True:
            self._look_at, left = math.inf, AGAIN
            try:
                over, until_next = await self._allocator.expire()
                left = math.inf if until_next is None else until_next
                if over:
                    self._scanner.request_scan()
            except StoreDown as down:
                self._store.report_down(down)
            self._look_in(left)
            while (left := self._look_at - time.monotonic()) > 0:
                self._changed = anyio.Event()
                with anyio.move_on_after(left):
                    await self._changed.wait()

    async def _send_heartbeats(self) -> None:
        while True:
            await anyio.sleep(HEARTBEAT)
            if self._runs:
                try:
                    await self._allocator.heartbeat(list(self._runs))
                except StoreDown as down:
                    self._store.report_down(down)

    async def _retry(self, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await action()
            except StoreDown as down:
                self._store.report_down(down)
                await anyio.sleep(AGAIN)


def _members(record: Record, root: Process) -> dict[Process, None]:
    """Return the processes of a run: descendants of the first, and those with its id in the environment."""
    carriers = with_variable(b"CANHAZGPU_RESERVATION", record.id.encode(), record.uid)
    return dict.fromkeys([*process_tree(root), *carriers])
