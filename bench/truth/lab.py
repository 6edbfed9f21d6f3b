"""The lab itself: cards and the processes on them, as NVML and /proc show them, and as they truly are."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.truth.clock import Clock
from bench.truth.kinds import KINDS, Kind
from bench.truth.people import EVERYBODY, ROOT
from bench.truth.proc import ProcTree
from canhazgpu.events.gpu import GpuReading, ProcessReading

PIDS = range(100, 130)  # Few, so that a pid is soon another's.
UNTOLD_MB = 700  # What a process uses whose memory the driver does not tell.
TOTAL_MB = 81559
THRESHOLD_MB = 100
MOST_EXEMPT_MB = 60
OK, ERROR, UNKNOWN, GONE = "ok", "error", "unknown", "gone"


@dataclass(frozen=True)
class Process:
    """A process and the truth about it: who is behind it, whether that is proven, for which run it works."""

    name: str
    pid: int
    start: int
    author: str
    kind: Kind
    comm: str
    uid: int
    login: int | None
    parent: int = 1
    run: str = ""  # The request whose run it descends from.
    claim: str = ""  # The reservation its environment names.
    hint: str = ""  # Whom what is known of it points to, where nobody is proven.
    box: int = 0  # Its container, where it is in one.
    session: str = ""  # Who logged in, where that is somebody else.
    memory: dict[str, int] = field(
        default_factory=dict
    )  # By card, in MiB; below 0: the driver does not tell.
    began: tuple[int, int] | None = None  # From when to when it may have begun, in milliseconds.

    @property
    def proven(self) -> bool:
        """Whether the kernel's word proves the author."""
        return self.kind.proven

    @property
    def who(self) -> str:
        """Who is to be told of it; where nobody can be proven, `?` and whom it points to."""
        return self.author if self.proven else f"?{self.hint}"


@dataclass
class Card:
    """A card: its UUID stays with it wherever it is; `state` is what the driver says of it."""

    name: str
    uuid: str
    state: str = OK
    replaced: int = 0
    said: str = ""  # The UUID of another card, where the driver says that for this one.


@dataclass(frozen=True)
class Sight:
    """What was on the cards at one moment: the truth beside a reading."""

    at_ms: int
    cards: dict[str, tuple[int, str, tuple[Process, ...]]]  # By UUID: index, state, processes.
    processes: tuple[Process, ...] = ()  # All there are.

    def until(self, later: "Sight") -> "Sight":
        """Return what was on the cards and still lived at a later moment."""
        alive = {one.name for one in later.processes}
        cards = {
            uuid: (index, state, tuple(one for one in on if one.name in alive))
            for uuid, (index, state, on) in self.cards.items()
        }
        return Sight(later.at_ms, cards, later.processes)


class Lab:
    """Cards, processes, and the clock. Nothing here is the product's."""

    def __init__(self, folder: Path, cards: int, clock: Clock) -> None:
        """Begin with idle cards."""
        self.clock = clock
        self.tree = ProcTree(folder)
        self.cards = {f"c{number}": Card(f"c{number}", f"GPU-c{number}-0") for number in range(cards)}
        self.processes: dict[str, Process] = {}
        self.stalled = False
        self._next_pid = 0
        self._boxes = 0

    def start(self, name: str, person: str, kind_name: str, card: str, memory: int, **more: str) -> None:
        """Let a process begin on a card, where there is a pid for it; `more` says its run, claim and hint."""
        kind = KINDS[kind_name]
        if kind.owner not in ("", person):
            kind = KINDS["plain"]
        author = kind.owner or ("root" if kind.exempt else person)
        uid = EVERYBODY[author] if kind.uid is None else kind.uid
        session = more.get("session", "alice") if kind.switched else ""
        login = EVERYBODY[session or author] if kind.logged_in else kind.login
        run, claim = more.get("run", ""), more.get("claim", "")
        parent = self.processes[run].pid if run in self.processes else 1
        if kind.exempt:
            memory = min(abs(memory), MOST_EXEMPT_MB)
        hint = "" if kind.proven else more.get("hint", "")
        self._boxes += 1
        made = Process(
            name,
            pid=0,
            start=0,
            author=author,
            kind=kind,
            comm=kind.name,
            uid=uid,
            login=login,
            parent=parent,
            run=run,
            claim=claim,
            hint=hint,
            box=self._boxes,
            session=session,
        )
        self._begin(replace(made, memory={card: memory} if card else {}))

    def fork(self, name: str, child: str, card: str, memory: int) -> None:
        """Let a process make another, which is as it is."""
        one = self.processes.get(name)
        if one and not one.kind.exempt:
            self._begin(replace(one, name=child, parent=one.pid, memory={card: memory}))

    def exit(self, name: str) -> None:
        """Let a process end; its pid is free. A command that root runs becomes the parent of its orphans."""
        one = self.processes.pop(name, None)
        if one:
            self.tree.remove(one.pid)
            for child in [
                child for child in self.processes.values() if child.run and child.parent == one.pid
            ]:
                run = self.processes.get(child.run)
                self._put(replace(child, parent=run.pid if run and run.uid == ROOT else 1))

    def rename(self, name: str) -> None:
        """Let a process call itself something else."""
        one = self.processes.get(name)
        if one and not one.kind.exempt:
            self._put(replace(one, comm=f"step-{self.clock.now_ms % 1000}"))

    def become_root(self, name: str) -> None:
        """Let a person's process become root's, as by sudo: who logged in stays who it was."""
        one = self.processes.get(name)
        if one and one.kind in (KINDS["plain"], KINDS["sudo"]):
            self._put(replace(one, uid=ROOT))

    def spread(self, name: str, card: str, memory: int) -> None:
        """Let a process use another card, too."""
        one = self.processes.get(name)
        if one and one.memory and not one.kind.exempt:
            self.processes[name] = replace(one, memory=one.memory | {card: memory})

    def on(self, card: Card) -> tuple[Process, ...]:
        """Return the processes on a card."""
        return tuple(one for one in self.processes.values() if card.name in one.memory)

    def present(self) -> list[Card]:
        """Return the cards the driver finds, by index."""
        return [card for card in self.cards.values() if card.state != GONE]

    def sight(self) -> Sight:
        """Return the truth of this moment."""
        cards = {card.uuid: (index, card.state, self.on(card)) for index, card in enumerate(self.present())}
        return Sight(self.clock.now_ms, cards, tuple(self.processes.values()))

    def readings(self) -> tuple[GpuReading, ...]:
        """Return what the driver says at this moment."""
        return tuple(self._reading(index, card) for index, card in enumerate(self.present()))

    def _reading(self, index: int, card: Card) -> GpuReading:
        name, uuid = "NVIDIA H100 80GB HBM3", card.said or card.uuid
        if card.state != OK:
            error = "fell off the bus" if card.state == ERROR else None
            unknown = "no answer for it" if card.state == UNKNOWN else None
            return GpuReading(index=index, uuid=uuid, name=name, error=error, unknown=unknown)
        on = self.on(card)
        return GpuReading(
            index=index,
            uuid=uuid,
            name=name,
            memory_total_mb=TOTAL_MB,
            memory_used_mb=3 + sum(used(one, card.name) for one in on),
            processes=tuple(
                ProcessReading(
                    pid=one.pid, memory_mb=None if one.memory[card.name] < 0 else one.memory[card.name]
                )
                for one in on
            ),
        )

    def _begin(self, one: Process) -> None:
        taken = {other.pid for other in self.processes.values()}
        free = [pid for pid in PIDS if pid not in taken]
        if free:
            pid = next((pid for pid in free if pid >= self._next_pid), free[0])
            self._next_pid = pid + 1
            now = self.clock.now_ms
            self._put(replace(one, pid=pid, start=self.clock.ticks, began=(now, now)))

    def _put(self, one: Process) -> None:
        self.processes[one.name] = one
        kind = one.kind
        self.tree.write(
            one.pid,
            name=one.comm,
            start=one.start,
            parent=one.parent,
            uid=one.uid,
            login=one.login,
            cgroup=kind.cgroup.format(uid=EVERYBODY[one.session or one.author], number=one.box),
            id_map=kind.id_map,
            environment=f"CANHAZGPU_RESERVATION={one.claim}\0" if one.claim else "",
            program=kind.program,
        )


def used(process: Process, card: str) -> int:
    """Return the MiB a process truly has on a card."""
    memory = process.memory[card]
    return UNTOLD_MB if memory < 0 else memory
