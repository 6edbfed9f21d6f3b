"""Knows from answers and from processes who has which card; it has no code of the product's."""

import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

TWICE = "a card with two holders"
USED = "a card granted while somebody else's process was on it"
LOST = "an acknowledged reservation that is missing"
BACK = "a reservation that ended and is there again"
UNHEARD = "a reservation that nobody heard of"
ORDER = "a waiting command that lost its place"
RUN = "a run that was disturbed, or is not followed"
OPEN = "an open violation that did not stay the same one"
DETECTED = "use without right that is not found afterwards"
MAILED = "a notice of what happened afterwards that never arrived"
DELAYED = "a notice that was on its way and did not arrive"
RENAMED = "a notice that came under two Message-IDs"
LOGGED = "a fact that is not exactly once in the audit log"
DOUBLED = "a fact that is in the audit log twice"
CHAIN = "an audit log that does not verify"
WORDS = "an answer that is no plain sentence, or comes too late"
ENDED = "a daemon that ended by itself"
TRACED = "a traceback in the log of the service"
WORKS = "a service that does not work afterwards"

SEEN_AFTER = 2.0  # Seconds after which a process on a card must have been seen.


@dataclass(frozen=True)
class Claim:
    """A reservation that somebody was told is theirs."""

    name: str
    uuids: frozenset[str]
    user: str


@dataclass(frozen=True)
class Use:
    """A living process on a card, since when."""

    pid: int
    uuid: str
    user: str
    since: float


@dataclass
class Oracle:
    """Follows who was promised what; `failures` are the kinds of what was wrong, with the words for it."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    live: dict[str, Claim] = field(default_factory=dict)
    grants: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.RLock()
        self._over: set[str] = set()
        self._ending: set[str] = set()
        self._uses: dict[int, Use] = {}

    def fail(self, kind: str, text: str) -> None:
        """Note that something was wrong."""
        with self._lock:
            self.failures.append((kind, text))

    def granted(self, name: str, uuids: Collection[str], user: str, asked: float) -> None:
        """Note what somebody who asked at `asked` was told now; it must be no card that is promised."""
        with self._lock:
            self.grants += 1
            claim = Claim(name, frozenset(uuids), user)
            for other in self.live.values():
                if other.name != name and other.uuids & claim.uuids:
                    self.fail(TWICE, f"{claim.uuids & other.uuids}: {other.name}'s, and {name}'s")
            for use in self._uses.values():
                if use.uuid in claim.uuids and use.user != user and use.since < asked - SEEN_AFTER:
                    self.fail(USED, f"{use.uuid}: granted to {user}, and {use.user}'s {use.pid} is on it")
            self.live[name] = claim

    def ending(self, name: str) -> None:
        """Somebody is about to end it: from now on it may be there or not."""
        with self._lock:
            self.live.pop(name, None)
            self._ending.add(name)

    def ended(self, name: str) -> None:
        """Note that an answer says that it has ended."""
        with self._lock:
            self._ending.discard(name)
            self._over.add(name)

    def placed(self, pid: int, uuid: str, user: str, since: float | None = None) -> None:
        """Note that a process is on a card from now on."""
        with self._lock:
            self._uses[pid] = Use(pid, uuid, user, time.monotonic() if since is None else since)

    def removed(self, pid: int) -> None:
        """Note that a process may have left its card."""
        with self._lock:
            self._uses.pop(pid, None)

    def in_use(self) -> set[str]:
        """Return the cards with processes."""
        with self._lock:
            return {use.uuid for use in self._uses.values()}

    def promised(self) -> set[str]:
        """Return the cards that are promised to somebody."""
        with self._lock:
            return {uuid for claim in self.live.values() for uuid in claim.uuids}

    def compare(self, rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
        """Return what is wrong with what `status` says now; nobody asks for anything meanwhile."""
        held: dict[str, set[str]] = {}
        for row in rows:
            if row["reservation"]:
                held.setdefault(row["reservation"]["id"], set()).add(row["uuid"])
        wrong = []
        with self._lock:
            for claim in self.live.values():
                if held.get(claim.name) != set(claim.uuids):
                    text = f"{claim.name} of {claim.user} on {sorted(claim.uuids)}: {held.get(claim.name)}"
                    wrong.append((LOST, text))
            for name in held.keys() - self.live.keys() - self._ending:
                known = name in self._over
                wrong.append((BACK if known else UNHEARD, f"{name} on {sorted(held[name])}"))
        return wrong
