"""What users ask of the service, by its API and by `canhazgpu run`, and what they are answered."""

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.truth.real.agents import AGENT, Agent, Gone
from bench.truth.real.history import Interval, now_ms, since
from bench.truth.real.host import COMMAND, ROOT, Host
from bench.truth.real.lab import Lab
from bench.truth.real.people import Person
from bench.truth.rights import Request


@dataclass
class Call:
    """What somebody asked of the service; `agent` is the run that asks."""

    request: Request
    began: int
    agent: Agent | None = None
    asked: Interval | None = None  # Once there is an answer.
    gpus: Sequence[int] = ()
    lost: bool = False


class Caller:
    """A process of a user's that calls the service."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._read = b""

    def ask(self, demand: dict[str, Any]) -> None:
        """Send a demand."""
        if self.process.stdin:
            self.process.stdin.write(json.dumps(demand).encode() + b"\n")

    def answers(self) -> list[dict[str, Any]]:
        """Return what was answered since the last time."""
        out = self.process.stdout
        while out and select.select([out], [], [], 0)[0]:
            more = out.read(65536)
            if not more:
                break
            self._read += more
        *lines, self._read = self._read.split(b"\n")
        return [json.loads(line) for line in lines]


class Calls:
    """All calls of a round; nobody waits for their answers."""

    def __init__(self, host: Host, lab: Lab) -> None:
        """Begin with none."""
        self._host, self._lab = host, lab
        self.made: list[Call] = []
        self._callers: dict[tuple[str, bool], Caller] = {}

    def reserve(self, name: str, kind: str, person: Person, demand: dict[str, Any]) -> None:
        """Ask for a reservation made by hand."""
        call = Call(Request(name, person.name, kind), now_ms())
        self.made.append(call)
        words = {"kind": "manual", "duration": "4s", **demand}
        wait = "6s" if kind.endswith("wait") else False
        self._caller(person, kind).ask({"number": len(self.made) - 1, "reserve": words, "wait": wait})
        self._lab.history.note(f"{name}: {person.name} asks, {kind}, {demand}")

    def release(self, call: Call) -> None:
        """Give a reservation back."""
        person = self._lab.name_of(call.request.person)
        self._caller(person, call.request.kind).ask({"number": -1, "release": [call.request.id]})
        self._lab.history.note(f"{call.request.name}: {person.name} releases {call.request.id}")

    def run(self, name: str, kind: str, person: Person, options: Sequence[str]) -> None:
        """Start `canhazgpu run`."""
        began = now_ms()
        as_root = kind.startswith("sudo")
        program = person.plain_words(*AGENT) if as_root else list(AGENT)
        words = [*COMMAND, "run", "--new", *options, "--", *program]
        words = person.sudo_words(*words) if as_root else person.words(*words)
        agent = Agent(words, self._host.environment)
        self.made.append(Call(Request(name, person.name, kind), began, agent))
        self._lab.history.note(f"{name}: {person.name} runs, {kind}, {' '.join(options)}, pid {agent.pid}")

    def listen(self) -> None:
        """Take the answers there are."""
        for caller in self._callers.values():
            for answer in caller.answers():
                if answer["number"] >= 0:
                    self._answered(self.made[answer["number"]], answer)
        for call in self.made:
            if call.agent and not call.agent.has_ended and call.asked is None:
                self._follow_run(call)

    def _answered(self, call: Call, answer: dict[str, Any]) -> None:
        asked = (call.began, answer["ended"])
        if "id" in answer:
            call.request.id, call.gpus, call.asked = answer["id"], answer["gpus"], asked
            self._lab.history.note(f"{call.request.name} is {answer['id']}, GPUs {answer['gpus']}")
        else:
            call.lost = True
            self._lab.history.note(f"{call.request.name}: {answer.get('refused') or answer.get('lost')}")

    def _follow_run(self, call: Call) -> None:
        if call.agent is None:
            return
        try:
            line = call.agent.line(0)
        except (Gone, OSError):
            call.lost = True
            call.agent.end()
            self._lab.history.note(f"{call.request.name} did not begin")
            return
        if line is None:
            return
        _, name, gpus, _ = line.split()
        call.request.id, call.asked = name, since(call.began)
        call.gpus = [int(index) for index in gpus.split(",")]
        request = call.request
        own = request.name
        self._lab.begin(own, call.agent.pid, request.person, "plain", call.agent, None, call.began, own)
        self._lab.history.note(f"{request.name} is {name}, GPUs {call.gpus}")

    def _caller(self, person: Person, kind: str) -> Caller:
        as_root = kind.startswith("sudo")
        found = self._callers.get((person.name, as_root))
        if found is None:
            words = [sys.executable, "-m", "bench.truth.real.caller", self._host.socket]
            found = Caller(person.sudo_words(*words) if as_root else person.words(*words))
            self._callers[person.name, as_root] = found
        return found

    def close(self) -> None:
        """Ask no more."""
        for call in self.made:
            if call.agent and not call.agent.has_ended:
                call.agent.end()
        for caller in self._callers.values():
            caller.process.kill()
            caller.process.wait()
        self._callers.clear()
