"""Who may be on a card: its holder, its run, and whoever is presumed to be its holder."""

from dataclasses import dataclass

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


def by_right(process: Process, holder: Request, *, surely: bool = True) -> bool:
    """Tell whether a process is on a card of the holder's by right; not `surely`: or may be taken to be."""
    if process.proven or process.run == holder.name:
        return process.author == holder.person or process.run == holder.name
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
