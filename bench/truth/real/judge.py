"""Holds what the real product said against the history, in order of time, by the generated lab's oracle."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.truth.lab import Sight
from bench.truth.oracle import GPU, Oracle
from bench.truth.promise import Promise
from bench.truth.real.history import History, Interval
from bench.truth.rights import Request
from canhazgpu.events.gpu import PROVEN

BEFORE_MS, AFTER_MS = 6000, 1000  # What is told of the time around a failure.


@dataclass(frozen=True)
class Heard:
    """An event of the product, at the moment Redis gave it."""

    at_ms: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """What `status` said between a call and its answer."""

    asked: Interval
    gpus: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Answered:
    """What somebody who asked for GPUs was told."""

    asked: Interval
    request: Request
    gpus: Sequence[int]


@dataclass(frozen=True)
class Failure:
    """The product was wrong: in what, at what moment."""

    column: str
    text: str
    at_ms: int


@dataclass
class Judge:
    """Goes through one round. What may have been so excuses; what was so beyond doubt accuses."""

    history: History
    promise: Promise
    failures: list[Failure] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nothing heard."""
        self._oracle = Oracle(self.promise)
        self._held: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        self._uuids = frozenset(self.history.uuids.values())
        self._created: dict[str, list[int]] = {}
        self._calls: dict[str, Interval] = {}

    def judge(
        self,
        heard: Iterable[Heard],
        shown: Iterable[Shown],
        answered: Sequence[Answered],
        lost: Iterable[Request],
        end_ms: int,
    ) -> list[Failure]:
        """Return all that was wrong until `end_ms`; of `lost` requests nobody heard what became."""
        self._oracle.requests = {request.id: request for request in lost if request.id}
        for one in answered:
            self._oracle.requests[one.request.id] = one.request
            self._calls[one.request.id] = one.asked
        rows: list[tuple[int, int, Callable[[int], None]]] = []
        rows += [(at_ms, 0, self._change) for at_ms in self.history.moments() if at_ms < end_ms]
        rows += [(one.at_ms, 1, partial(self._hear, one)) for one in heard]
        rows += [(one.asked[1], 2, partial(self._look, one)) for one in shown]
        rows += [(end_ms, 3, self._change)]
        for at_ms, _, act in sorted(rows, key=lambda row: row[:2]):
            before = len(self._oracle.failures)
            act(at_ms)
            new = self._oracle.failures[before:]
            self.failures += [Failure(column, text, at_ms) for column, text in new]
        before = len(self._oracle.failures)
        self._oracle.end(self.history.throughout(end_ms, end_ms))
        self.failures += [Failure(*found, end_ms) for found in self._oracle.failures[before:]]
        self._compare(answered)
        return self.failures

    @property
    def _scan_ms(self) -> int:
        """How old what the product knows may be."""
        return self.promise.interval + self.promise.slack

    def _change(self, at_ms: int) -> None:
        """Follow the lab: who has been where, with what right, for how long."""
        oracle, history = self._oracle, self.history
        sure, possible = history.throughout(at_ms, at_ms), history.at_all(at_ms, at_ms)
        oracle.pass_time(sure, seeing=history.sees(at_ms, at_ms), possible=possible)
        for key in oracle.wrong(possible):
            oracle.looks[key] = at_ms
        oracle.looked(history.throughout(at_ms - self._scan_ms, at_ms))

    def _hear(self, one: Heard, _: int) -> None:
        self._change(one.at_ms)
        began = one.at_ms - self.promise.slack
        if one.kind.startswith("canhazgpu.violation."):
            sight = self.history.at_all(began, one.at_ms)
            for key in self._oracle.wrong(sight):
                self._oracle.looks[key] = one.at_ms
        else:
            call = self._calls.get(str(one.data.get("id")), (0, 0))
            sight = self.history.throughout(max(began - self.promise.interval, call[0]), one.at_ms)
            if one.kind == "canhazgpu.reservation.created":
                self._created[one.data["id"]] = one.data["gpus"]
        self._oracle.sight = sight
        self._oracle.hear(one.kind, one.data, sight, self.history.throughout(began, one.at_ms))
        for uuid in self._uuids:
            holder = self._oracle.holders.get(uuid)
            name = holder.id if holder else None
            if not self._held[uuid] or self._held[uuid][-1][1] != name:
                self._held[uuid].append((one.at_ms, name))
        self._change(one.at_ms)  # From here on somebody may be on a card by right, or by no right any more.

    def _look(self, one: Shown, _: int) -> None:
        first, last = one.asked
        if not self.history.sees(first - self._scan_ms, last):
            return
        sight = self.history.at_all(first - self._scan_ms, last)
        self._oracle.sight = sight
        for gpu in one.gpus:
            if gpu["uuid"] not in self._uuids and gpu["status"] in ("ERROR", "UNKNOWN"):
                continue  # The driver does not say which it is.
            for process in gpu["processes"]:
                person = process["user"] if process["evidence"] in PROVEN else None
                self._oracle.shown(person, process["pid"], sight)
            self._check_holder(gpu, first, last, sight)

    def _check_holder(self, gpu: dict[str, Any], first: int, last: int, sight: Sight) -> None:
        name = gpu["reservation"]["id"] if gpu["reservation"] else None
        held = self._held[gpu["uuid"]]
        before = [holder for at_ms, holder in held if at_ms < first][-1:] or [None]
        if name not in [*before, *(holder for at_ms, holder in held if first <= at_ms <= last)]:
            self._oracle.fail(GPU, f"{gpu['uuid']} is shown as held by {name}, and is {held[-1:]}'s")
        elif gpu["uuid"] in sight.cards and sight.cards[gpu["uuid"]][0] != gpu["gpu_id"]:
            self._oracle.fail(GPU, f"{gpu['uuid']} is shown as {gpu['gpu_id']}")

    def _compare(self, answered: Iterable[Answered]) -> None:
        """Compare the answers that people got with the decisions in the events."""
        for one in answered:
            if sorted(self._created.get(one.request.id, ())) != sorted(one.gpus):
                text = f"{one.request.person} was told {one.gpus}: {self._created.get(one.request.id)}"
                self.failures.append(Failure(GPU, text, one.asked[1]))


def caller(request: Request) -> str:
    """Return who asks, by name."""
    return "root" if request.kind.startswith("sudo") else request.person


def adopted(heard: Iterable[Heard], lost: Iterable[tuple[Interval, Request]], known: set[str]) -> None:
    """Give requests whose answer was lost the reservation they may have become."""
    left = list(lost)
    for one in heard:
        if one.kind != "canhazgpu.reservation.created" or one.data["id"] in known:
            continue
        for call in left:
            if caller(call[1]) == one.data["user"] and call[0][0] <= one.at_ms:
                call[1].id = one.data["id"]
                left.remove(call)
                break


def story(failure: Failure, history: History, heard: Iterable[Heard]) -> str:
    """Return what happened around a failure to its cards, with the seconds before and after it."""
    cards = [card for card, uuid in history.uuids.items() if uuid in failure.text] or list(history.uuids)
    indices = {list(history.uuids).index(card) for card in cards}
    rows = [(at_ms, text) for at_ms, about, text in history.notes if not about or about in cards]
    for one in heard:
        gpus = {one.data.get("gpu", one.data.get("index")), *one.data.get("gpus", ())}
        if not gpus.isdisjoint(indices):
            said = {key: one.data[key] for key in ("id", "violation", "user", "reason") if key in one.data}
            pids = [process["pid"] for process in one.data.get("processes", ())]
            name = one.kind.removeprefix("canhazgpu.")
            rows.append((one.at_ms, f"the product: {name} {said}{f' pids {pids}' if pids else ''}"))
    near = sorted(row for row in rows if -BEFORE_MS <= row[0] - failure.at_ms <= AFTER_MS)
    lines = [f"  {(at_ms - failure.at_ms) / 1000:+8.3f} s  {text}" for at_ms, text in near]
    return "\n".join([f"{failure.column}, at {failure.at_ms}: {failure.text}", *lines])
