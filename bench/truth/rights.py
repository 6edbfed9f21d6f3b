"""Who may be on a card: its holder, its run, and whoever is presumed to be its holder."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.truth.lab import THRESHOLD_MB, Process, used

IDLE_MB = 3  # What an idle card's driver has.
EARLIER_MS = 5000  # A container that started this much earlier is not presumed to be the holder's.
DOUBT_MS = 100  # How exactly the product knows when a process began.


@dataclass
class Request:
    """What somebody asked for; `id` is the product's name for it once it has one."""

    name: str
    person: str
    kind: str
    id: str = ""
    live: bool = False
    used_ms: int = 0  # The last look that saw its holder use it.
    since_ms: int = 0  # When it was granted.
    disowned: set[tuple[str, int]] = field(default_factory=set)  # Containers, by card,
    doubted: set[tuple[str, int]] = field(default_factory=set)  # and those that may be.

    def disown(self, uuid: str, surely: Iterable[Process], perhaps: Iterable[Process]) -> None:
        """Take it that these are not the holder's, whatever is presumed."""
        self.disowned |= {(uuid, one.box) for one in surely if not bound_to(one, self)}
        self.doubted |= {(uuid, one.box) for one in perhaps if not bound_to(one, self)}

    def own_again(self, uuid: str) -> None:
        """Take back what was disowned on a card."""
        self.disowned = {one for one in self.disowned if one[0] != uuid}
        self.doubted = {one for one in self.doubted if one[0] != uuid}


def bound_to(process: Process, holder: Request) -> bool:
    """Tell whether somebody is proven to be behind a process, or it descends from the holder's run."""
    return process.proven or process.run == holder.name


def by_right(
    process: Process, holder: Request, uuid: str, *, surely: bool = True, seen: bool = False
) -> bool:
    """Tell whether a process is on a card of the holder's by right; not `surely`: or may be taken to be.

    `seen`: it was on a card while the first process of its run was above it.
    """
    if bound_to(process, holder):
        of_run = process.run == holder.name and (seen or not surely)
        return process.author == holder.person or of_run
    if (uuid, process.box) in (holder.disowned | holder.doubted if surely else holder.disowned):
        return False
    if process.hint or process.claim:
        return process.hint in ("", holder.person) and process.claim in ("", holder.id)
    if process.began is None:
        return True
    first, last = process.began
    began = first - DOUBT_MS if surely else last + DOUBT_MS
    return began >= holder.since_ms - EARLIER_MS


def counted(processes: tuple[Process, ...]) -> list[Process]:
    """Return the processes that make a card count as in use."""
    return [one for one in processes if not one.kind.exempt]


def in_use(uuid: str, processes: tuple[Process, ...]) -> bool:
    """Tell whether a card counts as in use."""
    card = uuid.split("-")[1]
    on = counted(processes)
    memory = sum(used(one, card) for one in on) + IDLE_MB
    return any(one.memory[card] < 0 for one in on) or memory > THRESHOLD_MB


def descends(process: Process, everybody: tuple[Process, ...]) -> bool:
    """Tell whether the first process of its run is above a process."""
    by_pid = {one.pid: one for one in everybody}
    above: Process | None = process
    while above and above.name != process.run:
        above = by_pid.get(above.parent)
    return above is not None
