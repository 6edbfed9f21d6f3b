"""The product in the lab: its real scanner, attribution, judge, scripts and allocator, on the lab's clock."""

import asyncio
from pathlib import Path
from types import ModuleType

from bench.truth.clock import Clock, LabStore
from bench.truth.kinds import EXEMPT_NAME
from bench.truth.lab import THRESHOLD_MB, Lab, Sight
from bench.truth.people import EVERYBODY, NAMES
from canhazgpu.config.notices import Notices
from canhazgpu.config.settings import Gpus, Memory, Settings, Violations
from canhazgpu.events.gpu import GpuReading, Hint
from canhazgpu.events.linux.processes import Process
from canhazgpu.service.gpus import scanner
from canhazgpu.service.identity import process_facts
from canhazgpu.service.identity.attribution import Attributor
from canhazgpu.service.identity.container_hints import Clue, Hints
from canhazgpu.service.identity.process_facts import Facts
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.providers.provider import ProviderError
from canhazgpu.service.reservations.allocator import Allocator
from canhazgpu.service.storage import policy

INTERVAL, CONFIRM = 0.2, 0.3
IDLE_AFTER, IDLE_RELEASE = 2.0, 1.0
SETTINGS = Settings(
    host="truth",
    gpus=Gpus(scan_interval=INTERVAL),
    memory=Memory(threshold_mb=THRESHOLD_MB),
    violations=Violations(confirm=CONFIRM, exempt_processes=[EXEMPT_NAME]),
    notices=Notices(idle_after=IDLE_AFTER, idle_release=IDLE_RELEASE),
)


class LabUsers(Users):
    """Knows the lab's people at once: how long a directory takes is no part of the lab's time."""

    def name(self, uid: int) -> str | None:
        """Return a user's name."""
        return NAMES.get(uid)

    def uid(self, name: str) -> int | None:
        """Return a user's uid."""
        return EVERYBODY.get(name)


class LabHints(Hints):
    """Knows at once whom a container's process points to."""

    def __init__(self, lab: Lab) -> None:
        """Know what the lab knows."""
        self._lab = lab
        self.generation = 0

    def of(self, pid: int, facts: Facts) -> Clue:
        """Return what is known of a process."""
        for one in self._lab.processes.values():
            if (one.pid, one.start) == (pid, facts.start) and one.hint:
                return Clue(Hint(user=one.hint, uid=EVERYBODY[one.hint], source="the lab says so"))
        return Clue()

    def remember(self, pid: int, start: int, clue: Clue) -> None:
        """Do nothing: the lab says it again."""

    async def settle(self) -> None:
        """Do nothing."""


class LabProvider:
    """Reads the lab's cards; the rest of a scan may be held up until the lab lets it go on."""

    name = "lab"

    def __init__(self, lab: Lab) -> None:
        """Read nothing yet."""
        self._lab = lab
        self.sight: Sight | None = None
        self.gate: asyncio.Event | None = None
        self.has_read = asyncio.Event()

    async def read(self) -> tuple[GpuReading, ...]:
        """Return what the driver says. Raises ProviderError while it says nothing."""
        self.sight = None
        if self._lab.stalled:
            raise ProviderError("no answer from the driver", "wait")
        readings, self.sight = self._lab.readings(), self._lab.sight()
        self.has_read.set()
        if self.gate:
            await self.gate.wait()
        return readings

    async def aclose(self) -> None:
        """Do nothing."""


class Product:
    """One life of the daemon, from its start to its end. What it knows beside Redis ends with it."""

    def __init__(self, lab: Lab, store: LabStore, etc: Path) -> None:
        """Begin."""
        self._lab = lab
        self.store = store
        self.provider = LabProvider(lab)
        self.attributor = Attributor(proc=lab.tree.folder, etc=etc, users=LabUsers(), hints=LabHints(lab))
        self.allocator = Allocator(SETTINGS, store)
        self.runs: dict[str, Process] = {}
        vars(self.attributor)["runs"] = self.runs
        self.scanner = scanner.Scanner(SETTINGS, store, self.provider, self.attributor)
        self.due_ms = lab.clock.now_ms
        self.scan: asyncio.Task[float] | None = None

    async def look(self) -> None:
        """Begin a scan: the cards are read, the rest of it waits for `report`."""
        self.provider.gate, self.provider.has_read = asyncio.Event(), asyncio.Event()
        self.scanner._began = self._lab.clock.monotonic()  # noqa: SLF001 - the lab takes the place of its loop
        self.scan = asyncio.create_task(self.scanner._scan())  # noqa: SLF001
        read = asyncio.create_task(self.provider.has_read.wait())
        await asyncio.wait({self.scan, read}, return_when=asyncio.FIRST_COMPLETED)
        read.cancel()

    async def report(self) -> Sight | None:
        """Go on with the scan to its end; return what was true when the cards were read. Raises StoreDown.

        None when the driver said nothing.
        """
        if not (self.scan and self.provider.gate):
            raise RuntimeError("no scan was begun")
        began = self.scanner._began  # noqa: SLF001
        self.provider.gate.set()
        scan, self.scan = self.scan, None
        pause = await scan
        self.due_ms = max(self._lab.clock.now_ms + 5, self._lab.clock.at(began + pause))
        return self.provider.sight

    async def die(self) -> None:
        """End at once, whatever is under way."""
        if self.scan:
            self.scan.cancel()
            await asyncio.wait({self.scan})


def on_the_clock(clock: Clock | ModuleType) -> None:
    """Let the product take its time from the lab, or from the module `time` again."""
    for module in (scanner, process_facts, policy):
        vars(module)["time"] = clock
