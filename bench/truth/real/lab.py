"""The real lab: processes on cards, and the intervals in which each change came about."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.truth.kinds import KINDS
from bench.truth.lab import Process
from bench.truth.real.agents import Agent, Gone, Kinds, kill, reap
from bench.truth.real.history import CardState, History, Interval, Presence, now_ms, since
from bench.truth.real.host import Host
from bench.truth.real.people import Person

CARDS = 5


@dataclass
class Live:
    """A process that lives: the truth about it, and how it is reached."""

    process: Process
    agent: Agent | None
    parent: "Live | None"
    life: Presence
    on: dict[str, Presence] = field(default_factory=dict)

    @property
    def obeys(self) -> bool:
        """Whether it does as it is told."""
        return self.agent is not None and not self.agent.has_ended and self.process.kind.name == "python3"


class Lab:
    """Does one thing at a time, and writes down when."""

    def __init__(self, host: Host, people: Sequence[Person], kinds: Kinds) -> None:
        """Begin with idle cards."""
        self.host, self.people, self.kinds = host, people, kinds
        self.cards = {f"c{number}": f"GPU-c{number}-0" for number in range(CARDS)}
        self.history = History(self.cards)
        self.live: dict[str, Live] = {}
        self.states: dict[str, CardState] = {}
        self.unread: dict[str, CardState] = {}  # Cards that the product leaves alone after they hung.
        self.stalled = False
        self.freed: list[int] = []  # Pids that were somebody's.
        self.reused = 0
        self._say()
        for card in self.cards:
            self._set_state(card, "ok", since(0))

    def name_of(self, uid_name: str) -> Person:
        """Return a person by name."""
        return next(person for person in self.people if person.name == uid_name)

    def start(self, name: str, kind: str, person: Person, pid: int | None, hint: str) -> None:
        """Let a process begin, with this pid if it can be had."""
        began = now_ms()
        try:
            agent = self.kinds.start(kind, person, pid, hint)
        except (Gone, OSError):
            return
        author = "root" if KINDS[kind].exempt else person.name
        self.reused += agent.pid == pid
        self.begin(name, agent.pid, author, kind, agent, None, began, hint=hint)

    def begin(  # noqa: PLR0913, PLR0917 - each says one thing about it
        self,
        name: str,
        pid: int,
        author: str,
        kind: str,
        agent: Agent | None,
        parent: Live | None,
        began: int,
        run: str = "",
        hint: str = "",
    ) -> None:
        """Take over a process that has begun, and is `author`'s."""
        run = parent.process.run if parent else run
        span = since(began)
        made = Process(
            name, pid, 0, author, KINDS[kind], "", 0, None, run=run, hint=hint, memory={}, began=span
        )
        live = Live(made, agent, parent, Presence(span, process=made, card=""))
        self.history.presences.append(live.life)
        self.live[name] = live

    def use(self, name: str, card: str, memory: int) -> None:
        """Let a process use a card."""
        live = self.live.get(name)
        if live is None or card in live.on or card not in self.cards:
            return
        began = now_ms()
        live.process.memory[card] = memory
        live.on[card] = Presence((began, began), process=live.process, card=card)
        self._say()
        live.on[card].began = since(began)
        self.history.presences.append(live.on[card])
        said = f"{name}, {live.process.author}'s, pid {live.process.pid}, {kind_of(live.process)}"
        run = f", of {live.process.run}" if live.process.run else ""
        run += f", points to {live.process.hint}" if live.process.hint else ""
        self.history.note(f"{said}{run}: uses {card}, {memory} MiB", card)

    def fork(self, name: str, child: str, card: str, memory: int) -> None:
        """Let a process make another, which uses a card."""
        parent = self.live.get(name)
        if parent is None or not parent.obeys or not parent.process.proven or parent.agent is None:
            return
        began = now_ms()
        try:
            pid = int(parent.agent.ask("fork"))
        except Gone:
            return
        self.begin(child, pid, parent.process.author, kind_of(parent.process), None, parent, began)
        self.use(child, card, memory)

    def rename(self, name: str, comm: str) -> None:
        """Let a process call itself something else."""
        live = self.live.get(name)
        if live and live.obeys and live.agent:
            live.agent.ask("name", comm)
            for card in live.on:
                self.history.note(f"{name} calls itself {comm}", card)

    def exit(self, name: str, *, listed: bool) -> None:
        """Let a process end; the driver lists it a moment longer, or no more already."""
        live = self.live.pop(name, None)
        if live is None:
            return
        began = now_ms()
        if not listed:
            self._say()
            for presence in live.on.values():
                presence.ended = since(began)
        killed = now_ms()
        self._kill(live)
        live.life.ended = since(killed)
        if listed:
            self._say()
            for presence in live.on.values():
                presence.ended = since(began)
        self.freed.append(live.process.pid)
        for card in live.on:
            self.history.note(f"{name} has ended, pid {live.process.pid}, begun {began}", card)

    @staticmethod
    def _kill(live: Live) -> None:
        if live.agent:
            live.agent.end()
            return
        kill(live.process.pid)
        shell = live.parent.agent if live.parent else None
        if shell and not shell.has_ended:
            shell.ask("reap", str(live.process.pid))
        else:
            reap(live.process.pid)

    def set_state(self, card: str, state: str) -> None:
        """Let the driver say something else of a card."""
        before = self.states[card]
        if before.state == state:
            return
        began = now_ms()
        self._set_state(card, state, (began, began))
        self._say()
        before.ended = self.states[card].began = since(began)
        self.history.note(f"{card} is {state}", card)

    def _set_state(self, card: str, state: str, began: Interval) -> None:
        self.states[card] = CardState(began, card=card, state=state)
        self.history.states.append(self.states[card])

    def leave_unread(self) -> None:
        """Take it that the product reads no card from now on, until it is seen to."""
        now = now_ms()
        for card in self.cards:
            if card not in self.unread:
                self.unread[card] = CardState((now, now), card=card, state="unread")
                self.history.states.append(self.unread[card])

    def read_again(self, card: str) -> None:
        """Take it that the product reads a card again."""
        state = self.unread.pop(card, None)
        if state:
            state.ended = since(now_ms())
            self.history.note(f"{card} is read again", card)

    def say_again(self) -> None:
        """Let the driver say what is so, after `stalled` was changed."""
        self._say()

    def _say(self) -> None:
        uses: list[dict[int, int | None]] = []
        for card in self.cards:
            on = [one.process for one in self.live.values() if card in one.on]
            uses.append({one.pid: None if one.memory[card] < 0 else one.memory[card] for one in on})
        states = [self.states[card].state if self.states else "ok" for card in self.cards]
        self.host.driver.say(uses, states, stalled=self.stalled)

    def close(self) -> None:
        """End everybody."""
        for name in list(self.live):
            self.exit(name, listed=False)


def kind_of(process: Process) -> str:
    """Return the name of a process's kind."""
    return next(name for name, kind in KINDS.items() if kind is process.kind)
