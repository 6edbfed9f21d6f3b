"""The states of a service that a fault may strike: what goes on before, meanwhile, and how it must end."""

import json
import select
import subprocess
import time
from typing import Any

from bench.faults.asking import Storm, cards
from bench.faults.cell import Cell, Red
from bench.faults.oracle import DELAYED, DETECTED, MAILED, OPEN, ORDER, RUN, WORKS
from bench.truth.real.people import Person

BEFORE = 60.0  # Seconds within which a state must be reached,
AFTER = 60.0  # and within which it must go on as if nothing had been.
LONG = 90.0  # Seconds for a mail: pauses between attempts grow.


class State:
    """Nothing goes on but the reservation by hand that is in every cell."""

    name = "idle"
    promise = "reservations stay"
    busy = False  # Whether somebody reserves and releases all the time.

    def begin(self, cell: Cell) -> None:
        """Reach the state."""

    def during(self, cell: Cell) -> None:
        """Do what happens while the fault is there."""

    def finish(self, cell: Cell) -> None:
        """See that it goes on, and bring it to its end."""

    def abandon(self) -> None:
        """End what it began, wherever the cell ended."""


class AllocationStorm(State):
    """Callers reserve and release as fast as they can, through the fault and after it."""

    name = "allocation storm"
    busy = True
    storm: Storm | None = None
    promise = (
        "granted GPUs stay granted, released GPUs stay released, and each caller asks until it gets an answer"
    )

    def begin(self, cell: Cell) -> None:
        """Let them begin."""
        self.storm = Storm(cell.host, cell.oracle)
        cell.until(lambda: cell.oracle.grants > 10, BEFORE, "ten grants")  # noqa: PLR2004

    def finish(self, cell: Cell) -> None:
        """See that they are granted more; let them end."""
        if self.storm is None:
            return
        goal = cell.oracle.grants + 5
        try:
            cell.until(lambda: cell.oracle.grants >= goal, AFTER, "five more grants")
        except Red as red:
            cell.oracle.fail(WORKS, str(red))
        unanswered = self.storm.end()
        cell.seen.append(f"{cell.oracle.grants} grants, {unanswered} calls without an answer")
        cell.kept()
        base = cell.base
        for name in [name for name in cell.oracle.live if name != base]:
            cell.caller.release(name)

    def abandon(self) -> None:
        """Let nobody ask any more."""
        if self.storm:
            self.storm.end()


class Waiters(State):
    """Three commands wait for five of eight cards that are all reserved."""

    name = "waiters in the queue"
    promise = "every request keeps waiting, and they are served in order"
    notes = ("first", "second", "third")

    def begin(self, cell: Cell) -> None:
        """Take all cards; let three wait."""
        self.taken = []
        while name := cell.caller.reserve():
            self.taken.append(name)
        self.waiters: list[subprocess.Popen[str]] = []
        for note in self.notes:
            words = ["reserve", "--gpus", "5", "--wait", "--json", "--duration", "6h", "--note", note]
            self.waiters.append(cell.host.begin(*words))
            cell.follow(self.waiters[-1])
            cell.until(
                lambda: len(self._queue(cell)) == len(self.waiters), BEFORE, f"the {note} in the queue"
            )

    @staticmethod
    def _queue(cell: Cell) -> list[str]:
        done = cell.host.command("queue", "--json")
        return [] if done.status else [one["note"] for one in json.loads(done.out)]

    def finish(self, cell: Cell) -> None:
        """Serve one after the other."""
        deadline = time.monotonic() + AFTER
        while (queue := self._queue(cell)) != list(self.notes) and time.monotonic() < deadline:
            time.sleep(0.2)
        if queue != list(self.notes):
            cell.oracle.fail(ORDER, f"the queue is {queue}")
        for name in self.taken:
            cell.caller.release(name)
        for place, waiter in enumerate(self.waiters):
            asked = time.monotonic()
            try:
                out, error = waiter.communicate(timeout=AFTER)
            except subprocess.TimeoutExpired:
                cell.oracle.fail(ORDER, f"the {self.notes[place]} is not served")
                continue
            if waiter.returncode:
                cell.oracle.fail(ORDER, f"the {self.notes[place]} ended: {error.strip()}")
                continue
            answer = json.loads(out)
            cell.oracle.granted(answer["id"], cards(answer), "root", asked)
            if early := [one for one in self.waiters[place + 1 :] if one.poll() is not None]:
                cell.oracle.fail(ORDER, f"{len(early)} behind the {self.notes[place]} ended before")
            cell.caller.release(answer["id"])


class LiveRuns(State):
    """Two commands run; one of them ends while the fault is there."""

    name = "live runs"
    promise = "a run keeps its GPU while its process lives, and no longer"

    def begin(self, cell: Cell) -> None:
        """Start both."""
        self.runs = [self._start(cell, person) for person in (cell.owner, cell.other)]

    @staticmethod
    def _start(cell: Cell, person: Person) -> tuple["subprocess.Popen[str]", str]:
        asked = time.monotonic()
        program = "echo $CANHAZGPU_RESERVATION $NVIDIA_VISIBLE_DEVICES; exec sleep 900"
        process = cell.host.begin("run", "--new", "--gpus", "1", "--", "sh", "-c", program, person=person)
        cell.follow(process)
        out: Any = process.stdout
        if not select.select([out], [], [], BEFORE)[0]:
            raise Red("a run does not begin")
        name, uuids = out.readline().split()
        cell.oracle.granted(name, uuids.split(","), person.name, asked)
        cell.driver.place(process.pid, uuids)
        cell.oracle.placed(process.pid, uuids, person.name)
        return process, name

    def during(self, cell: Cell) -> None:
        """Let one end."""
        process, name = self.runs[1]
        cell.oracle.ending(name)
        cell.stop_using(process)

    def finish(self, cell: Cell) -> None:
        """See that the other is still there, and followed."""
        self._released(cell, self.runs[1][1])
        process, name = self.runs[0]
        if process.poll() is not None:
            cell.oracle.fail(RUN, f"{name} ended: {process.communicate()[1].strip()!r}")
            return
        cell.kept()
        cell.oracle.ending(name)
        cell.stop_using(process)
        self._released(cell, name)

    @staticmethod
    def _released(cell: Cell, name: str) -> None:
        def gone() -> bool:
            rows = cell.host.rows()
            return rows is not None and all((row["reservation"] or {}).get("id") != name for row in rows)

        try:
            cell.until(gone, AFTER, f"the end of {name}, whose process has ended")
        except Red as red:
            cell.oracle.fail(RUN, str(red))
        cell.oracle.ended(name)


class OpenViolations(State):
    """Two people use cards without right; one of them stops while the fault is there."""

    name = "open violations"
    promise = "the violation stays open under its id; its end is detected, reported and logged"

    def begin(self, cell: Cell) -> None:
        """Let both be found and told."""
        uuids = cell.free_cards()
        self.agents = [cell.use(cell.offender, uuids[0]), cell.use(cell.other, uuids[1])]
        self.first = {name: found(cell, name, BEFORE) for name in (cell.offender.name, cell.other.name)}
        cell.until(lambda: cell.mailbox.to(cell.offender.name), BEFORE, "a mail to who uses a card")

    def during(self, cell: Cell) -> None:
        """Let one stop."""
        cell.stop_using(self.agents[1])

    def finish(self, cell: Cell) -> None:
        """See that the other's is open still, and ends with its use."""
        name = cell.offender.name
        now = found(cell, name, AFTER)
        if now != self.first[name]:
            cell.oracle.fail(OPEN, f"{self.first[name]} is {now} now")
        closed(cell, cell.other.name, AFTER)
        told = cell.mailbox.to(name)
        cell.stop_using(self.agents[0])
        closed(cell, name, AFTER)
        try:
            cell.until(lambda: cell.mailbox.to(name) > told, LONG, "the mail that it is over")
        except Red as red:
            cell.oracle.fail(MAILED, str(red))
        cell.violations_known |= {*filter(None, [*self.first.values(), now])}


class NoticesInFlight(State):
    """The mail server defers a notice, which is to be tried again when the fault strikes."""

    name = "notices in flight"
    promise = "the notice arrives"

    def begin(self, cell: Cell) -> None:
        """Let a notice be on its way."""
        cell.mailbox.defers = True
        self.agent = cell.use(cell.offender, cell.free_cards()[0])
        self.first = found(cell, cell.offender.name, BEFORE)
        cell.until(lambda: cell.mailbox.deferred, BEFORE, "an attempt to send a mail")

    def finish(self, cell: Cell) -> None:
        """See that it arrives once the server takes it."""
        cell.mailbox.defers = False
        name = cell.offender.name
        began = time.monotonic()
        try:
            cell.until(lambda: cell.mailbox.to(name), LONG, "the mail that was deferred")
            cell.seen.append(f"the mail came {time.monotonic() - began:.1f} s after")
        except Red as red:
            cell.oracle.fail(DELAYED, str(red))
        now = found(cell, name, AFTER)
        if now != self.first:
            cell.oracle.fail(OPEN, f"{self.first} is {now} now")
        cell.stop_using(self.agent)
        closed(cell, name, AFTER)
        cell.violations_known |= {*filter(None, (self.first, now))}


def found(cell: Cell, user: str, seconds: float) -> str | None:
    """Return the open violation of a user, None where there is none within so many seconds."""

    def look() -> str | None:
        ids = [one["violation"] for one in cell.violations("--open") or () if one["user"] == user]
        return ids[0] if ids else None

    try:
        return str(cell.until(look, seconds, f"a violation of {user}"))
    except Red as red:
        cell.oracle.fail(DETECTED, str(red))
        return None


def closed(cell: Cell, user: str, seconds: float) -> None:
    """See that no violation of a user is open any more."""

    def is_open() -> bool:
        rows = cell.violations("--open")
        return rows is None or any(one["user"] == user for one in rows)

    try:
        cell.until(lambda: not is_open(), seconds, f"the end of the violation of {user}")
    except Red as red:
        cell.oracle.fail(DETECTED, str(red))


STATES: dict[str, type[State]] = {
    state.name: state
    for state in (State, AllocationStorm, Waiters, LiveRuns, OpenViolations, NoticesInFlight)
}
__all__ = ["STATES", "State", "closed", "found"]
