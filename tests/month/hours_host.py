"""A host whose users reserve, use, leave idle, wait and misbehave at random, on a test's clock, in seconds.

`seen` is what every scan saw, for the oracle: what reports are made of must say the same.
"""

import random
from typing import Any, NamedTuple

import msgspec
from month.clock import TimedStore
from support.cards import CardHost

from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Gpus, Settings
from canhazgpu.events.gpu import GpuReading, GpuUsage
from canhazgpu.service.gpus.renumbering import Renumbering
from canhazgpu.service.report.summing import Summing
from canhazgpu.service.reservations.allocator import AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.policy import AllocationPolicy

UIDS = (1001, 1002, 1003, 1004)
SCAN, GAP = 600, 1800  # Seconds: the interval of the settings, and from when on a gap is one.


class Seen(NamedTuple):
    """What a scan saw of a card, in second `at`. `holder`: -1 for nobody."""

    at: int
    card: str
    state: str
    utilization: int
    users: frozenset[int]
    holder: int
    withdrawn: bool


class HoursHost(CardHost):
    """Four cards, and what is done to them."""

    def __init__(self, store: TimedStore, seed: int, begin: int) -> None:
        super().__init__(store)
        self.timed, self.random, self.begin, self.second = store, random.Random(seed), begin, 0
        self.settings = Settings(
            host=store.keys.host,
            gpus=Gpus(scan_interval=SCAN),
            notices=Notices(expiry_warning=0.0, idle_after=0.0),
        )
        self.rules = AllocationPolicy.of(self.settings)
        self.allocator = Allocator(self.settings, store)
        self.cards = Renumbering(store, self.rules, 10**9)
        self.summing = Summing(self.settings, store)
        self.listed = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
        self.utilizations: dict[str, int] = {}
        self.failing: set[str] = set()
        self.seen: list[Seen] = []

    async def go(self, seconds: int) -> None:
        """Let time pass."""
        self.second += seconds
        await self.timed.set_clock(self.begin + self.second * 1000)

    def _usage(self, reading: GpuReading, failing: Any) -> GpuUsage:
        usage = super()._usage(reading, failing)
        return msgspec.structs.replace(usage, utilization_percent=self.utilizations.get(reading.uuid, 0))

    async def look(self) -> None:
        """Scan, and note what there was to be seen."""
        before = {one.usage.uuid: one for one in (await self.states()).values()}
        await self.scan(*self.listed, failing=sorted(self.failing))
        for card in self.listed:
            state = before.get(card)
            holder = state.reservation.uid if state and state.reservation else -1
            withdrawn = bool(state and (state.drained or state.unmanaged))
            uses = frozenset(one for one in self.uses.get(card, ()) if isinstance(one, int))
            level = "error" if card in self.failing else "ok"
            percent = self.utilizations.get(card, 0)
            self.seen.append(Seen(self.second, card, level, percent, uses, holder, withdrawn))

    async def act(self) -> None:
        """Let somebody do something."""
        choose = self.random
        card, uid = choose.choice(self.listed), choose.choice(UIDS)
        deed = choose.choices(
            ("use", "stop", "load", "reserve", "release", "wait", "leave", "drain", "fail", "shuffle"),
            (6, 5, 8, 6, 5, 4, 2, 1, 1, 1),
        )[0]
        if deed == "use":
            self.uses[card] = sorted({*self.uses.get(card, ()), uid})  # type: ignore[type-var]
        elif deed == "stop":
            self.uses.pop(card, None)
        elif deed == "load":
            self.utilizations[card] = choose.choice((0, 0, 4, 5, 60, 100))
        elif deed == "fail":
            self.failing ^= {card}
        elif deed == "shuffle":
            choose.shuffle(self.listed)
        elif deed == "drain":
            index = choose.randrange(4)
            await self.drain(index, choose.choice(("fan", None)))
        else:
            await self._ask(deed, uid)

    async def _ask(self, deed: str, uid: int) -> None:
        self._operations += 1
        operation = f"operation-{self._operations}"
        if deed in ("reserve", "wait"):
            count = self.random.randint(1, 2) if deed == "reserve" else self.random.randint(2, 4)
            ask = AllocationRequest(
                kind="manual",
                user=f"u{uid}",
                uid=uid,
                count=count,
                duration_ms=self.random.randint(600, 400_000) * 1000,
                wait=deed == "wait" and len(await self.allocator.waiting()) < 3,
            )
            await self.allocator.reserve(ask, operation)
        elif deed == "release":
            await self.allocator.release(ReleaseOrder(uid=uid, by=f"u{uid}", reason="released"), operation)
        else:
            waiting = await self.allocator.waiting()
            if waiting:
                await self.allocator.leave([self.random.choice(waiting).id], "cancelled")

    async def live(self, days: int) -> None:
        """Live for so many days: scans, deeds between them, nights without a service, hours added up."""
        choose = self.random
        await self.go(0)
        while self.second < days * 86400:
            await self.look()
            for _ in range(choose.choice((0, 0, 0, 1, 1, 2, 3))):
                await self.go(choose.randint(1, 150))
                await self.act()
                await self.go(1)
                await self.allocator.expire()
            await self.go(choose.randint(1, SCAN))
            if choose.random() < 0.01:  # The service is off, and reservations go on.
                await self.go(choose.randint(GAP, 100_000))
            if choose.random() < 0.02:
                await self.summing.update()
            if choose.random() < 0.02:
                self.restart()
