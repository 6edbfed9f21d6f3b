"""The steps of an episode: pure data, made up from a seed, and valid with any of them left out."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bench.truth.people import DIRECTORY, IN_A_RANGE, LOCAL

CARDS = 5
HAZARDS = (
    "containers",
    "ranges",
    "directory",
    "sudo",
    "logins",
    "children",
    "disowning",
    "disguise",
    "cards",
    "twins",
    "redis",
)


FOREIGN = 0.25  # How often it is somebody else who uses what a holder has, in the holder's login.
BOXED = 0.3  # How often a holder's use is a container.
RECENT = 5  # Of so many requests most are live.


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action of the lab, `wait_ms` after the one before.

    `name` is the process, card or request it is about. `place`: a card, or `of:NAME`, the first card of a
    request. `number` is memory, a count, or milliseconds, as `verb` has it.
    """

    wait_ms: int
    verb: str
    name: str = ""
    person: str = ""
    kind: str = ""
    place: str = ""
    number: int = 0
    claim: str = ""  # The request whose reservation its environment names,
    hint: str = ""  # and the person it points to where nobody is proven.
    split: int = 0  # A scan that is due then reads the cards now, and /proc so many steps later.


# What processes there are by hazard; how often each is chosen.
KINDS = {
    "": {"plain": 12, "slice": 2, "rootless": 2, "exempt": 2},
    "containers": {"container": 4, "container-uid": 4, "remapped": 2},
    "sudo": {"sudo": 3},
    "logins": {"switched": 3},
    "disguise": {"disguised": 3, "mps": 1},
}
VERBS = {
    "start": 26,
    "exit": 20,
    "rename": 4,
    "become-root": 1,
    "fork": 4,
    "spread": 3,
    "reserve": 12,
    "use": 10,
    "release": 6,
    "run-end": 3,
    "leave": 2,
    "pause": 10,
    "fail": 1,
    "mend": 2,
    "stall": 0.3,
    "kill-daemon": 0.3,
}
HAZARDOUS_VERBS: dict[str, dict[str, float]] = {
    "logins": {"clear": 8},
    "children": {"clear": 8, "kill-daemon": 2, "run-end": 6},
    "disowning": {"clear": 8, "disown": 6, "own-again": 2},
    "twins": {"twin": 0.4, "untwin": 2},
    "cards": {"vanish": 0.7, "replace": 0.3, "return": 2},
    "redis": {"kill-redis": 0.03},
}


class Author:
    """Makes up an episode. It knows what it began, never what came of it."""

    def __init__(self, seed: int, hazards: Sequence[str]) -> None:
        """Begin with nothing."""
        self._random = random.Random(seed)
        self._people = [*LOCAL, *LOCAL]
        self._people += [*DIRECTORY] if "directory" in hazards else []
        self._people += [*IN_A_RANGE] if "ranges" in hazards else []
        self._sudo = "sudo" in hazards
        self._traced = "containers" in hazards
        self._children = "children" in hazards
        self._foreign = self._children or "logins" in hazards
        self._disowning = "disowning" in hazards
        self._recent = RECENT if {"children", "disowning"} & {*hazards} else 0
        self._kinds: dict[str, int] = dict(KINDS[""])
        self._verbs: dict[str, float] = dict(VERBS)
        for hazard in hazards:
            self._kinds |= KINDS.get(hazard, {})
            self._verbs |= HAZARDOUS_VERBS.get(hazard, {})
        self._count = 0
        self._alive: list[str] = []
        self._requests: list[tuple[str, str]] = []  # Their names and their people.

    def steps(self, length: int) -> list[Step]:
        """Return an episode of so many steps."""
        return [self._step() for _ in range(length)]

    def _step(self) -> Step:
        verb = self._choose(self._verbs)
        wait = self._random.randrange(12)
        split = self._random.choice((0, 0, 0, 1, 3))
        if verb == "pause":
            wait += self._random.choice((50, 150, 300, 600, 1500))
        fields = {"start": self._start, "use": self._use, "reserve": self._reserve}.get(verb, self._other)(
            verb
        )
        return Step(wait, verb, split=split, **fields)

    def _choose(self, weights: Mapping[str, float]) -> str:
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _new(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _card(self) -> str:
        return f"c{self._random.randrange(CARDS)}"

    def _memory(self) -> int:
        return self._random.choice((30, 60, 600, 600, 5000, 20000, -1))  # -1: it cannot be told.

    def _start(self, verb: str) -> dict[str, Any]:
        del verb
        name = self._new("p")
        self._alive.append(name)
        person, kind = self._random.choice(self._people), self._choose(self._kinds)
        made = {"name": name, "person": person, "kind": kind, "place": self._card(), "number": self._memory()}
        return made | self._traces("")

    def _use(self, verb: str) -> dict[str, Any]:
        """Let a holder use what they have, also with a kind of process that proves nobody."""
        if not self._requests:
            return self._start(verb)
        request, person = self._random.choice(self._requests[-6:])
        name = self._new("p")
        self._alive.append(name)
        kind = self._choose(self._kinds)
        if self._disowning and self._random.random() < BOXED:
            kind = "container"
        elif self._foreign and self._random.random() < FOREIGN:
            kind, person = "switched", self._random.choice(self._people)
        return {
            "name": name,
            "person": person,
            "kind": kind,
            "place": f"of:{request}",
            "number": self._memory(),
            **self._traces(request),
        }

    def _traces(self, request: str) -> dict[str, str]:
        """Return what is known of a container beside what the kernel says: often nothing."""
        if not self._traced or self._random.random() < 0.5:  # noqa: PLR2004
            return {}
        names = [name for name, _ in self._requests[-6:]]
        claim = self._random.choice(("", "", request, *names))
        return {"claim": claim, "hint": self._random.choice(("", self._random.choice(self._people)))}

    def _reserve(self, verb: str) -> dict[str, Any]:
        del verb
        name, person = self._new("r"), self._random.choice(self._people)
        self._requests.append((name, person))
        kinds = ["manual", "manual", "manual-wait", "run", "run-wait"]
        kinds += ["sudo-run", "sudo-manual"] if self._sudo else []
        place = self._random.choice(("", "", self._card()))
        kind = self._random.choice(kinds)
        return {
            "name": name,
            "person": person,
            "kind": kind,
            "place": place,
            "number": self._random.choice((1, 1, 1, 2)),
        }

    def _other(self, verb: str) -> dict[str, Any]:
        if verb in ("exit", "rename", "become-root", "fork", "spread"):
            return self._to_a_process(verb)
        if verb in ("release", "run-end", "leave", "disown", "own-again"):
            return self._to_a_request(verb) if self._requests else {}
        if verb in ("kill-daemon", "stall"):
            return {"number": self._random.choice((20, 200, 1000))}
        return self._to_a_card(verb)

    def _to_a_request(self, verb: str) -> dict[str, Any]:
        if verb == "run-end" and self._children:
            return {"name": self._requests[-1][0], "kind": "any"}
        return {"name": self._random.choice(self._requests[-self._recent :])[0]}

    def _to_a_card(self, verb: str) -> dict[str, Any]:
        if verb in ("fail", "mend", "vanish", "return", "replace"):
            return {"name": self._card(), "kind": self._random.choice(("error", "unknown"))}
        if verb in ("clear", "twin"):
            return {"name": self._card(), "place": self._card()}
        return {}

    def _to_a_process(self, verb: str) -> dict[str, Any]:
        if not self._alive:
            return {}
        name = self._random.choice(self._alive)
        if verb == "exit":
            self._alive.remove(name)
        if verb == "fork":
            child = self._new("p")
            self._alive.append(child)
            return {"name": child, "person": name, "place": self._card(), "number": self._memory()}
        return {"name": name, "place": self._card(), "number": self._memory()}


def make_up(seed: int, length: int, hazards: Sequence[str]) -> list[Step]:
    """Return the episode of a seed."""
    return Author(seed, hazards).steps(length)
