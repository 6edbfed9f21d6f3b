"""What people do at random in the real lab, for one round."""

import random
import time
from collections.abc import Sequence
from typing import Any

from bench.truth.real.agents import Kinds
from bench.truth.real.blows import Blows
from bench.truth.real.calls import Call, Calls
from bench.truth.real.history import now_ms, since
from bench.truth.real.host import Host
from bench.truth.real.judge import Shown
from bench.truth.real.lab import CARDS, Lab
from bench.truth.real.people import Person

MOST_PROCESSES = 9  # So that there are GPUs to hand out, too.
STATUS_EVERY = 0.3
MEMORY = (30, 60, 600, 600, 5000, 20000, -1)
BY_KIND = {"exempt": (30, 60, 300), "disguised": (600, 600, 20000, -1)}  # Above a bound nothing is exempt.
KINDS = {
    "plain": 12,
    "exempt": 2,
    "disguised": 3,
    "rootless": 3,
    "sudo": 3,
    "container": 3,
    "container-uid": 3,
    "slice": 2,
}
VERBS = {
    "start": 14,
    "use": 18,
    "exit": 18,
    "fork": 6,
    "spread": 3,
    "rename": 3,
    "reserve": 10,
    "release": 4,
    "run": 4,
    "run_end": 3,
    "fail": 1,
    "mend": 2,
    "pause": 6,
}
NAMES = ("nvidia-smi", "Xorg", "tail", "nvidia-cuda-mps")


class RandomActs:
    """One daemon's life and deaths among people who do things at random."""

    def __init__(self, seed: int, host: Host, who: Sequence[Person], kinds: Kinds) -> None:
        """Begin."""
        self._random = random.Random(seed)
        self._host = host
        self._people = who
        self._may_sudo = "sudo" in kinds.made
        self._kinds = {kind: weight for kind, weight in KINDS.items() if kind in kinds.made}
        self.lab = Lab(host, who, kinds)
        self.calls = Calls(host, self.lab)
        self.steps = 0
        self.shown: list[Shown] = []
        self._count = 0
        self._sudoer = who[-1]

    def run(self, seconds: float) -> None:
        """Let things happen for so long."""
        end = time.monotonic() + seconds
        blows = Blows(self._random, self._host, self.lab, seconds)
        asked = 0.0
        while time.monotonic() < end or not blows.sees:
            self.calls.listen()
            blows.recover()
            blows.follow()
            blows.strike()
            if time.monotonic() > asked + STATUS_EVERY and blows.sees:
                asked = time.monotonic()
                self._look()
            verb = self._choose(VERBS)
            getattr(self, f"_{verb}")()
            self.steps += 1
            time.sleep(self._random.choice((0.0, 0.005, 0.02, 0.05)))

    def settle(self, seconds: float) -> int:
        """End what runs; return when that was done and the product had time to say so."""
        self.calls.listen()
        self.close()
        for card in self.lab.cards:
            self.lab.set_state(card, "ok")
        time.sleep(seconds)
        self._look()
        return now_ms()

    def close(self) -> None:
        """End everybody."""
        self.lab.close()
        self.calls.close()

    def _choose(self, weights: dict[str, int]) -> str:
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _new(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _person(self) -> Person:
        return self._random.choice(self._people)

    def _card(self) -> str:
        return f"c{self._random.randrange(CARDS)}"

    def _name(self) -> str:
        return self._random.choice(list(self.lab.live) or [""])

    def _begin(self, person: Person, card: str) -> None:
        if len(self.lab.live) >= MOST_PROCESSES:
            return
        kind = self._choose(self._kinds)
        if kind == "sudo":
            person = self._sudoer
        memory = self._random.choice(BY_KIND.get(kind, MEMORY))
        pid = self.lab.freed.pop() if self.lab.freed and self._random.random() < 2 / 3 else None
        pid = pid if self.lab.kinds.reuses_pids else None
        name = self._new("p")
        hint = self._person().name if kind == "container" and self._random.random() < 0.4 else ""  # noqa: PLR2004
        self.lab.start(name, kind, person, pid, hint)
        self.lab.use(name, card, memory)

    def _start(self) -> None:
        self._begin(self._person(), self._card())

    def _live_calls(self) -> list[Call]:
        return [call for call in self.calls.made if call.asked][-6:]

    def _use(self) -> None:
        """Let a holder use what they have, or somebody else."""
        calls = self._live_calls()
        if not calls:
            return
        call = self._random.choice(calls)
        card = f"c{self._random.choice(list(call.gpus))}"
        name = call.request.name
        run = self.lab.live.get(name)
        if run and card not in run.on:
            self.lab.use(name, card, self._random.choice(MEMORY))
        elif run:
            self.lab.fork(name, self._new("p"), card, self._random.choice(MEMORY))
        else:
            self._begin(self.lab.name_of(call.request.person), card)

    def _exit(self) -> None:
        self.lab.exit(self._name(), listed=self._random.random() < 0.5)  # noqa: PLR2004

    def _fork(self) -> None:
        if len(self.lab.live) < MOST_PROCESSES:
            self.lab.fork(self._name(), self._new("p"), self._card(), self._random.choice(MEMORY))

    def _spread(self) -> None:
        live = self.lab.live.get(self._name())
        if live and not live.process.kind.exempt:
            self.lab.use(live.process.name, self._card(), self._random.choice(MEMORY))

    def _rename(self) -> None:
        self.lab.rename(self._name(), self._random.choice(NAMES))

    def _which(self) -> tuple[int, ...] | None:
        return (self._random.randrange(CARDS),) if self._random.random() < 0.3 else None  # noqa: PLR2004

    def _reserve(self) -> None:
        kind = self._random.choice(("manual", "manual", "manual-wait", "sudo-manual"))
        kind = kind if self._may_sudo else kind.removeprefix("sudo-")
        person = self._sudoer if kind.startswith("sudo") else self._person()
        named = self._which()
        demand: dict[str, Any] = {"gpus": named} if named else {"count": self._random.choice((1, 1, 2))}
        self.calls.reserve(self._new("r"), kind, person, demand)

    def _release(self) -> None:
        calls = [call for call in self._live_calls() if call.agent is None]
        if calls:
            self.calls.release(self._random.choice(calls))

    def _run(self) -> None:
        if sum(call.agent is not None and not call.asked and not call.lost for call in self.calls.made) > 1:
            return
        kind = self._random.choice(("run", "run", "run-wait", "sudo-run"))
        kind = kind if self._may_sudo else kind.removeprefix("sudo-")
        person = self._sudoer if kind.startswith("sudo") else self._person()
        named = self._which()
        options = [f"--gpu-ids={named[0]}"] if named else ["--gpus=1"]
        self.calls.run(self._new("r"), kind, person, [*options, *(["--wait=6s"] if "wait" in kind else [])])

    def _run_end(self) -> None:
        runs = [call.request.name for call in self.calls.made if call.request.name in self.lab.live]
        parents = {one.parent.process.name for one in self.lab.live.values() if one.parent}
        if runs:
            runs.sort(key=parents.__contains__)
            self.lab.exit(runs[-1], listed=True)  # Children, if there are any, use its GPUs still.

    def _fail(self) -> None:
        self.lab.set_state(self._card(), self._random.choice(("error", "unknown")))

    def _mend(self) -> None:
        for card, state in self.lab.states.items():
            if state.state != "ok":
                self.lab.set_state(card, "ok")
                return

    def _pause(self) -> None:
        time.sleep(self._random.choice((0.1, 0.3, 0.8, 1.5)))

    def _look(self) -> None:
        began = now_ms()
        found = self._host.status(fresh=False)
        if found is not None:
            self.shown.append(Shown(since(began), found))
