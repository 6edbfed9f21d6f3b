"""One cell: a service in a state, a fault that strikes it, and what must be so afterwards."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.asking import Caller
from bench.faults.driver import Driver
from bench.faults.host import Done, Host
from bench.faults.mailbox import Mailbox
from bench.faults.oracle import UNHEARD, WORDS, WORKS, Oracle
from bench.truth.real.people import Person

SLOWEST = 45.0  # Seconds in which every command must have said something.
BROKEN = ("Traceback", "Error 111", "Exception")
PLAIN_LINES = 3  # More is no plain sentence.


class Red(Exception):
    """The cell cannot go on: what was waited for did not come."""


@dataclass
class Cell:
    """All that a fault and a state work with; `seen` is what is worth telling, `facts` are measures."""

    folder: Path
    people: Sequence[Person]
    environment: Mapping[str, str]
    split: bool = False
    oracle: Oracle = field(default_factory=Oracle)
    seen: list[str] = field(default_factory=list)
    violations_known: set[str] = field(default_factory=set)
    base: str = ""  # The reservation by hand that is there throughout.

    def __post_init__(self) -> None:
        """Prepare all; nothing runs yet."""
        self.mailbox = Mailbox()
        self.driver = Driver(self.folder / "cards")
        told = {"FAKE_NVML": str(self.folder / "cards"), **self.environment}
        self.host = Host(self.folder, self.mailbox.port, told, split=self.split)
        self.caller = Caller(self.host, self.oracle)
        self.offender, self.other, self.late, self.owner = self.people
        self._agents: list[subprocess.Popen[Any]] = []

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Return the first true value of a condition. Raises Red."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise Red(f"{what}: waited {seconds:.0f} s in vain")
            time.sleep(0.1)
        return value

    def healthy(self, seconds: float) -> float:
        """Return after how many seconds there is a fresh picture of all cards again."""
        began = time.monotonic()

        def fresh() -> bool:
            self.host.revive()
            return self.host.rows() is not None

        try:
            self.until(fresh, seconds, "a fresh picture of all cards")
        except Red as red:
            self.oracle.fail(WORKS, f"{red}: {self.host.command('status')}")
            raise
        return time.monotonic() - began

    # What people do.

    def follow(self, agent: "subprocess.Popen[Any]") -> None:
        """End it with the cell."""
        self._agents.append(agent)

    def use(self, person: Person, uuid: str) -> "subprocess.Popen[bytes]":
        """Let a person's process use a card."""
        words = person.plain_words("sleep", "900")
        agent = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        self.follow(agent)
        self.until(lambda: _becomes(agent.pid, "sleep"), 10, "a process of a user's")
        self.driver.place(agent.pid, uuid)
        self.oracle.placed(agent.pid, uuid, person.name)
        return agent

    def stop_using(self, agent: "subprocess.Popen[Any]") -> None:
        """End a process that uses a card."""
        self.oracle.removed(agent.pid)
        agent.kill()
        agent.wait()
        self.driver.remove(agent.pid)

    def free_cards(self) -> list[str]:
        """Return the cards that nobody was promised and nobody uses."""
        taken = self.oracle.promised() | self.oracle.in_use()
        return [uuid for uuid in self.driver.uuids if uuid not in taken]

    # What is looked at.

    def look(self, *words: str, person: Person | None = None) -> Done:
        """Run a command while the fault is there: it may refuse, in a plain sentence and soon."""
        done = self.host.command(*words, person=person)
        said = f"{done.seconds:.1f} s: {done.error.strip()!r}"
        text = f"`{' '.join(words)}` ended {done.status} after {said}"
        broken = any(word in done.out + done.error for word in BROKEN)
        slow = done.seconds > SLOWEST or done.error.count("\n") > PLAIN_LINES
        if slow or broken or (done.status and not done.error):
            self.oracle.fail(WORDS, text)
        return done

    def kept(self, seconds: float = 15.0) -> None:
        """See that what was promised is there, and nothing else; what is under way may take a moment."""
        deadline = time.monotonic() + seconds
        while True:
            rows = self.host.rows()
            wrong = [] if rows is None else self.oracle.compare(rows)
            if rows is not None and not wrong:
                return
            if time.monotonic() > deadline:
                for kind, text in wrong or [(WORKS, "status has no fresh picture")]:
                    self.oracle.fail(kind, text)
                    if kind == UNHEARD:  # Its user sees it in `status`, and gives it back.
                        self.caller.release(text.partition(" ")[0])
                return
            time.sleep(0.2)

    def violations(self, *words: str) -> list[dict[str, Any]] | None:
        """Return what `violations` says, None where it does not."""
        done = self.host.command("violations", "--json", *words)
        return None if done.status else json.loads(done.out)

    def close(self) -> None:
        """End all that runs."""
        with suppress(ProcessLookupError):
            redis = self.host.redis_process()
            if redis:
                redis.send_signal(signal.SIGCONT)
        self.host.end()
        for agent in self._agents:
            if agent.poll() is None:
                agent.kill()
                agent.wait()
            for pipe in (agent.stdout, agent.stderr):
                if pipe:
                    pipe.close()
        self.mailbox.close()


def _becomes(pid: int, name: str) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name == name
    return False
