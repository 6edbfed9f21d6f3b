"""One episode: steps done one after the other to a fresh lab, product and oracle."""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.truth.clock import Change, Clock, LabStore
from bench.truth.lab import Lab
from bench.truth.lab_redis import LabRedis
from bench.truth.oracle import Oracle, uid_of
from bench.truth.people import ROOT, write_etc
from bench.truth.product import CONFIRM, IDLE_AFTER, IDLE_RELEASE, INTERVAL, Product, on_the_clock
from bench.truth.promise import Promise
from bench.truth.rights import Request
from bench.truth.steps import CARDS, Step
from canhazgpu.events.linux.processes import Process as Started
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.storage.snapshot import snapshot

SCAN_MS = 3  # What a scan takes in the lab between its reading and its report.
LONGEST_SPLIT_MS = 12  # No scan is held up for longer than such a step takes, times so many steps.
CHECK_EVERY = 7  # How many reports there are between two looks at what status shows.


class Episode:
    """Lets time pass in the lab, with the scans that are due; the oracle gets all that the product says."""

    def __init__(self, folder: Path, redis: LabRedis, change: Change | None = None) -> None:
        """Make a lab in `folder`, which is the episode's own."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        folder.chmod(0o755)
        write_etc(folder / "etc")
        self._etc = folder / "etc"
        self._redis = redis
        self.clock = Clock()
        on_the_clock(self.clock)
        self.lab = Lab(folder / "proc", CARDS, self.clock)
        self.store = LabStore(redis.url, f"truth-{uuid.uuid4().hex[:8]}", self.clock, change)
        idle = round((IDLE_AFTER + IDLE_RELEASE) * 1000)
        self.oracle = Oracle(Promise(round(INTERVAL * 1000), round(CONFIRM * 1000), idle))
        self.requests: dict[str, Request] = {}  # By the lab's name.
        self.product: Product | None = Product(self.lab, self.store, self._etc)
        self._events = "-"
        self._up_ms = self._stalled_ms = self._expire_ms = 0
        self._split = 0
        self._reports = 0
        self._ended: set[str] = set()  # Runs whose end no daemon has seen.

    async def run(self, steps: Sequence[Step]) -> list[tuple[str, str]]:
        """Do the steps; return what the oracle found wrong, none for nothing."""
        for number, step in enumerate(steps):
            before = len(self.oracle.failures)
            await self._wait(step.wait_ms, step.split)
            await self.do(step)
            await self._listen()
            self._pass_time()
            if len(self.oracle.failures) > before:
                found = self.oracle.failures[before:]
                self.oracle.failures[before:] = [(column, f"step {number}: {text}") for column, text in found]
        await self._wait(1, 0)
        if self.product and not self.lab.stalled:
            self.oracle.end(self.lab.sight())
        return self.oracle.failures

    async def do(self, step: Step) -> None:
        """Do what a step says."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of everything."""
        if self.product:
            await self.product.die()
        await self.store.close()

    async def _wait(self, wait_ms: int, split: int) -> None:
        """Let time pass, with the scans that are due in it."""
        target = self.clock.now_ms + wait_ms
        if self.product and self.product.scan:
            self._split -= 1
            if self._split <= 0 or wait_ms > LONGEST_SPLIT_MS:
                await self._report()
        while (due := self._next_ms()) <= target and not (self.product and self.product.scan):
            self.clock.now_ms = max(self.clock.now_ms, due)
            self._pass_time()
            await self._happen(split if target - due <= LONGEST_SPLIT_MS else 0)
        self.clock.now_ms = max(self.clock.now_ms, target)
        self._pass_time()

    def _due_ms(self) -> int:
        return self.product.due_ms if self.product else self._up_ms

    def _next_ms(self) -> int:
        moments = [self._due_ms(), self._stalled_ms, self._expire_ms if self.product else 0]
        return min(moment for moment in moments if moment)

    async def _happen(self, split: int) -> None:
        """Do what is due at this moment."""
        now = self.clock.now_ms
        if self._stalled_ms and self._stalled_ms <= now:
            self.lab.stalled, self._stalled_ms = False, 0
        elif self.product is None:
            await self._start_daemon()
        elif self._expire_ms and self._expire_ms <= now:
            await self._expire()
        else:
            await self.product.look()
            self._split = split
            if not split:
                self.clock.now_ms += SCAN_MS
                await self._report()

    async def _report(self) -> None:
        if self.product is None:
            return
        sight = await self.product.report()
        if sight is None:
            self._pass_time()
            return
        self.oracle.looked(sight, self.lab.sight())
        await self._listen()
        for usage in self.product.scanner.known.values():
            for one in (*usage.processes, *usage.exempt):
                self.oracle.shown(one.person, one.pid, self.lab.sight())
        self._reports += 1
        if self._reports % CHECK_EVERY == 0:
            await self._check_shown()

    async def _check_shown(self) -> None:
        seen = await snapshot(self.store)
        for gpu in seen.gpus:
            if gpu.usage.uuid in self.oracle.sight.cards:
                holder = gpu.reservation.id if gpu.reservation else None
                self.oracle.held(gpu.usage.uuid, gpu.usage.index, holder)

    async def _scan(self) -> None:
        """Scan now: what is under way is ended first."""
        if self.product is None:
            return
        if self.product.scan:
            await self._report()
        await self.product.look()
        self.clock.now_ms += SCAN_MS
        await self._report()

    async def _expire(self) -> None:
        if self.product is None:
            return
        over, left = await self.product.allocator.expire()
        self._expire_ms = 0 if left is None else self.clock.now_ms + max(1, round(left * 1000))
        await self._listen()
        if over and not self.product.scan:
            self.product.due_ms = self.clock.now_ms

    async def _start_daemon(self) -> None:
        self._up_ms = 0
        self.product = Product(self.lab, self.store, self._etc)
        self.oracle.restarted()
        await self.product.allocator.adopt()
        for record in await self.product.allocator.reservations():
            if record.kind == "run" and record.pid is not None and record.start is not None:
                self.product.runs[record.id] = Started(record.pid, record.start)
        for name in sorted(self._ended):
            await self._conclude(self.requests[name])
        for request in list(self.requests.values()):
            if request.id and not request.live and request.kind.endswith("wait"):
                await self._ask(
                    request,
                    AllocationRequest(
                        kind=kind_of(request),
                        user=request.person,
                        uid=uid_for(request),
                        count=1,
                        wait=True,
                        id=request.id,
                    ),
                )
        self._expire_ms = self.clock.now_ms

    async def _ask(self, request: Request, ask: AllocationRequest) -> None:
        if self.product is None:
            return
        reply = await self.product.allocator.reserve(ask, f"{request.name}-{self.clock.now_ms}")
        if reply.code in ("granted", "queued"):
            request.id = reply.id
            self.oracle.requests[reply.id] = request
        await self._listen()

    async def _conclude(self, request: Request) -> None:
        """Let the service see that a run's first process has ended."""
        if self.product is None:
            self._ended.add(request.name)
            return
        self._ended.discard(request.name)
        await self.product.allocator.conclude(request.id)
        self.product.runs.pop(request.id, None)
        await self._listen()
        if not self.product.scan:
            self.product.due_ms = self.clock.now_ms

    async def _listen(self) -> None:
        """Give the oracle the events since the last time."""
        start = "-" if self._events == "-" else f"({self._events}"
        rows: Any = await self.store.redis.xrange(self.store.keys.events, start)
        now = self.lab.sight()
        for key, fields in rows:
            self._events = key.decode()
            data = json.loads(fields[b"data"])
            kind = fields[b"type"].decode()
            self.oracle.hear(kind, data, now)
            if kind == "canhazgpu.reservation.created":
                self._begin(self.oracle.requests.get(data["id"]))

    def _begin(self, request: Request | None) -> None:
        if request is None or self.product is None:
            return
        root = self.lab.processes.get(request.name)
        if kind_of(request) == "run" and root:
            self.product.runs[request.id] = Started(root.pid, root.start)
        self._expire_ms = self.clock.now_ms
        if not self.product.scan:
            self.product.due_ms = self.clock.now_ms  # As the service does, so that what it ends is closed.

    def _pass_time(self) -> None:
        seeing = self.product is not None and not self.lab.stalled
        self.oracle.pass_time(self.lab.sight(), seeing=seeing)


def kind_of(request: Request) -> str:
    """Return the kind of reservation somebody asked for."""
    return "run" if "run" in request.kind else "manual"


def uid_for(request: Request) -> int:
    """Return the uid that asks."""
    return ROOT if request.kind.startswith("sudo") else uid_of(request.person)
