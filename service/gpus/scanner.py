"""The scanner: a loop that reads the GPUs and stores the result in Redis. It decides nothing about users."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuReading, GpuUsage, ProcessReading, ProcessUse, RunMember
from canhazgpu.events.linux.processes import EXHAUSTED
from canhazgpu.events.redis_client.keys import HOSTS
from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.gpus.missing_cards import ended_violations
from canhazgpu.service.gpus.observation import KNOWN, Observed, observe, stall
from canhazgpu.service.gpus.renumbering import Renumbering
from canhazgpu.service.gpus.usage import gpu_usage
from canhazgpu.service.providers.provider import Provider, ProviderError
from canhazgpu.service.storage.policy import AllocationPolicy
from canhazgpu.service.storage.snapshot import snapshot

CLOSEST = 0.1  # Seconds; between two requested scans there is a pause as long as the first one took,
LEAST_REST = 0.005  # but no longer than CLOSEST and no shorter than this.
LARGEST_MARGIN = 0.1
SIGN_OF_LIFE = 60.0  # Seconds between updates of the list of hosts.
QUICK = 0.5  # Timeout in seconds for a Redis that did not answer the previous scan.
BACKOFF_FIRST, BACKOFF_LAST = 0.05, 1.0


class ProcessAttributor(Protocol):
    """Attributes processes to users."""

    def attribute(self, process: ProcessReading) -> ProcessUse | None:
        """Return the process with its user, or None if it is gone."""

    def remember(self, processes: Iterable[ProcessUse | RunMember]) -> None:
        """Keep the runs of processes that were attributed before this service started."""

    async def settle(self) -> bool:
        """Wait a moment for outstanding answers; return whether one has changed."""


class Scanner:
    """Scans often enough that every state of a GPU is seen within `gpus.scan_interval`.

    The period is slightly shorter than the interval, and there is an extra scan at the moment when a
    candidate can be confirmed. Use therefore becomes a violation at most `scan_interval + confirm` after it
    began. A failed scan changes nothing and is reported once.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        provider: Provider,
        attributor: ProcessAttributor,
        checks: Iterable[Callable[[], None]] = (),
    ) -> None:
        """Store the parameters; nothing is read yet. `checks` are called when a scan ends."""
        interval = settings.gpus.scan_interval
        self._settings = settings
        self._store = store
        self._provider = provider
        self._attributor = attributor
        self._period = interval - min(interval / 10, LARGEST_MARGIN)
        self._confirm = settings.violations.confirm
        self._stale = self._confirm + 3 * interval + 10.0
        self._known: dict[int, GpuUsage] = {}
        self._stalled = ""
        self.trouble: ProviderError | None = None  # Why the last scan failed.
        # Most GPUs are as they were, and without a process.
        self._unused = lru_cache(KNOWN)(lambda reading: gpu_usage(reading, (), settings))
        self._rules = AllocationPolicy.of(settings)
        self._cards = Renumbering(store, self._rules, settings.gpus.missing_timeout)
        self._now_ms = 0  # The time of the last stored scan on Redis' clock.
        self._wanted = anyio.Event()
        self.granted: Callable[[], None] = lambda: None  # Called when waiting requests were granted.
        self.note: Callable[[], None] = lambda: None  # Called when a scan changed reservations.
        # Gives what is held the names of now, before a scan is judged; whether anything had another.
        self.follow_names: Callable[[], Awaitable[bool]] = _unnamed
        self._turn = anyio.Event()  # Set when a scan ends, then replaced.
        self.checks = list(checks)  # Called when a scan ends: no wake-up of their own.
        self._began = self._finished = 0.0  # The start times of the current scan and of the last one.
        self._alive_at = -SIGN_OF_LIFE
        self.progress = time.monotonic()
        self.stored: float | None = None  # When Redis last took a scan, or that there was none; monotonic.
        self.seen: Mapping[int, GpuUsage] = {}  # As last read, also where Redis did not take it,
        self.seen_at: float | None = None  # and when that was, on the monotonic clock.

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Scan until cancelled. Reports started after the first scan, even if it failed."""
        backoff = BACKOFF_FIRST
        started = False
        while True:
            self._began = time.monotonic()
            self._wanted = anyio.Event()
            try:
                pause = await self._scan()
                self._store.report_up()
                self.stored = time.monotonic()
                backoff = BACKOFF_FIRST
            except StoreDown as down:
                self._store.report_down(down)
                self._cards.forget()
                pause, backoff = backoff, min(backoff * 2, BACKOFF_LAST)
            self.progress, self._finished = time.monotonic(), self._began
            turn, self._turn = self._turn, anyio.Event()
            turn.set()
            for check in self.checks:
                check()
            if not started:
                started = True
                task_status.started()
            with anyio.move_on_after(max(0.0, self._began + pause - time.monotonic())):
                await self._wanted.wait()
                rest = min(CLOSEST, self._period, max(LEAST_REST, self.progress - self._began))
                await anyio.sleep(max(0.0, self.progress + rest - time.monotonic()))

    @property
    def known(self) -> Mapping[int, GpuUsage]:
        """All GPUs ever seen, by index, as of the last scan."""
        return self._known

    @property
    def duration(self) -> float | None:
        """How many seconds the last scan took; None before the first one has ended."""
        return self.progress - self._finished if self._finished else None

    def may_be_used(self, gpus: Iterable[int]) -> bool:
        """Return whether the last scan saw use of one of these GPUs, or did not see one of them."""
        return any(gpu not in self._known or self._known[gpu].in_use for gpu in gpus)

    def forget_cards(self) -> None:
        """Read the cards from Redis again, because its data was restored."""
        self._cards.forget()

    def request_scan(self) -> None:
        """Request a scan, because something waits for a scan that starts after now."""
        self._wanted.set()

    async def wait_for_new_scan(self, patience: float) -> bool:
        """Wait for a scan that starts after this call; return False after `patience` seconds."""
        asked = time.monotonic()
        with anyio.move_on_after(patience):
            while self._finished <= asked:
                self._wanted.set()
                await self._turn.wait()
        return self._finished > asked

    async def _scan(self) -> float:
        """Scan once; return how many seconds after its start the next one is due."""
        try:
            readings = await self._provider.read()
        except ProviderError as error:
            return await self._fail(error)
        try:
            return await self._attribute_all(readings)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            reason = f"the processes on the GPUs cannot be read: {error.strerror}"
            return await self._fail(ProviderError(reason, "restart the service"))

    async def _fail(self, error: ProviderError) -> float:
        self.trouble = error
        self._cards.stall()
        await self._recall()
        await self._record_stalled(error)
        return self._period

    async def _attribute_all(self, readings: Sequence[GpuReading]) -> float:
        self.trouble = None
        if self._store.down:  # Show the result without waiting for Redis.
            self._publish_usages([self._usage(reading) for reading in readings])
            await self._store.ready(QUICK)
        await self._recall()
        readings = await self._cards.settle(readings, self._now_ms)
        self._rename(self._cards.moved)
        usages = [self._usage(reading) for reading in readings] + self._cards.missing()
        if await self._attributor.settle():
            usages = [self._usage(reading) for reading in readings] + self._cards.missing()
        self._publish_usages(usages)
        renamed = await self.follow_names()
        over = await ended_violations(self._store, [usage.index for usage in self._cards.missing()])
        age = time.monotonic() - self._began
        observed = await observe(
            self._store,
            usages,
            self._confirm,
            self._stale,
            age=age,
            rules=self._rules,
            ended=over,
            former=self._cards.former,
        )
        self._now_ms = observed.now_ms
        if observed.granted or self._cards.granted:
            self.granted()
        if (
            renamed
            or self._cards.moved
            or observed.granted
            or observed.freed
            or self._known.keys() != {usage.index for usage in usages}
        ):
            self.note()
        if self._stalled:
            structlog.get_logger().info("scanner_resumed")
            self._stalled = ""
        self._known = {usage.index: usage for usage in usages}
        await self._log_alive(observed)
        return self._pause(observed)

    async def _recall(self) -> None:
        """Read the previous GPUs from Redis, if this process has not scanned them yet."""
        if not self._known:
            before = await snapshot(self._store)
            self._known = {gpu.usage.index: gpu.usage for gpu in before.gpus}
            seen = self._known.values()
            self._attributor.remember(one for usage in seen for one in usage.processes + usage.exempt)
            self._attributor.remember(one for usage in seen for one in usage.members)
            self._stalled = before.stalled_reason

    def _publish_usages(self, usages: list[GpuUsage]) -> None:
        self.seen = {usage.index: usage for usage in usages}
        self.seen_at = self._began

    def _usage(self, reading: GpuReading) -> GpuUsage:
        if not reading.processes:
            return self._unused(reading)
        seen = [self._attributor.attribute(process) for process in reading.processes]
        return gpu_usage(reading, [process for process in seen if process], self._settings)

    def _rename(self, moved: Mapping[int, int]) -> None:
        """Apply the current indices to the last readings."""
        if moved:
            renamed = ((moved.get(index, index), usage) for index, usage in self._known.items())
            self._known = {index: msgspec.structs.replace(usage, index=index) for index, usage in renamed}

    def _pause(self, observed: Observed) -> float:
        if not observed.due_ms:
            return self._period
        until_due = (observed.due_ms - observed.now_ms) / 1000 + 0.001  # Redis rounds its clock down.
        return min(self._period, time.monotonic() - self._began + until_due)

    async def _record_stalled(self, error: ProviderError) -> None:
        if self._stalled != error.reason:
            structlog.get_logger().warning("scanner_stalled", reason=error.reason, remedy=error.remedy)
        self._stalled = error.reason
        await stall(self._store, error.reason, error.remedy)

    async def _log_alive(self, observed: Observed) -> None:
        if time.monotonic() - self._alive_at < SIGN_OF_LIFE:
            return
        await self._store.ask(self._store.common.zadd(HOSTS, {self._settings.host: observed.now_ms}))
        self._alive_at = time.monotonic()


async def _unnamed() -> bool:
    return False
