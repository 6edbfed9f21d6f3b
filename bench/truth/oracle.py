"""What is true in the lab and what the product may say of it. It reads events and answers, no product code.

Each check allows for the interval between a call and its answer: what changed in it may be seen either way.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.truth.bursts import Use
from bench.truth.lab import OK, Process, Sight
from bench.truth.people import EVERYBODY
from bench.truth.promise import Accusation, Promise
from bench.truth.rights import Request, bound_to, by_right, counted, descends, in_use

FALSE, PERSON, GPU = "false accusations", "wrong person", "wrong GPU"
MISSED, LATE = "missed longer than scan_interval + confirm", "late"
GRANTED, IDLE = "granted while in use", "idle released while used"
COLUMNS = (FALSE, PERSON, GPU, MISSED, LATE, GRANTED, IDLE)
Key = tuple[str, str]  # A card's UUID, and who is on it without right.


@dataclass
class Oracle:
    """Holds what the product says against what it knows; `failures` are columns with sentences."""

    promise: Promise
    failures: list[tuple[str, str]] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)  # By the product's id.
    holders: dict[str, Request] = field(default_factory=dict)  # By UUID.
    open: dict[str, Accusation] = field(default_factory=dict)  # By violation.
    sight: Sight = field(default_factory=lambda: Sight(0, {}))  # The last one the product reported.
    throughout: Sight = field(default_factory=lambda: Sight(0, {}))  # What was so until it had.
    since: dict[Key, int] = field(default_factory=dict)
    overdue: dict[Key, int] = field(default_factory=dict)
    looks: dict[Key, int] = field(default_factory=dict)  # The last one that saw somebody without right.
    uses: dict[Key, Use] = field(default_factory=lambda: defaultdict(Use))
    members: set[str] = field(default_factory=set)  # Processes that a scan saw below their run's first one.

    def fail(self, column: str, text: str) -> None:
        """Count one failure."""
        self.failures.append((column, text))

    def rightful(self, process: Process, uuid: str, *, surely: bool = True) -> bool:
        """Tell whether a process is on a card by right; not `surely`: or the product may think so."""
        holder, seen = self.holders.get(uuid), process.name in self.members
        return holder is not None and by_right(process, holder, uuid, surely=surely, seen=seen)

    def wrong(self, sight: Sight, *, surely: bool = False, failed: bool = False) -> set[Key]:
        """Return who is where without right; not `surely`: or may be taken to be.

        On cards that `failed` too, or only on those that are well.
        """
        found = set()
        for uuid, (_, state, processes) in sight.cards.items():
            if (failed or state == OK) and in_use(uuid, processes):
                others = (
                    one for one in counted(processes) if not self.rightful(one, uuid, surely=not surely)
                )
                found |= {(uuid, one.who) for one in others}
        return found

    def pass_time(self, now: Sight, *, seeing: bool, possible: Sight | None = None) -> None:
        """Follow who is where without right, for how long, and whether that was told.

        `possible` is what may be so, where `now` is only what is so beyond doubt.
        """
        there = self.wrong(possible or now, failed=True)
        for key in there | self.uses.keys():
            unseen_ms = self.promise.interval + self.promise.slack
            seen = seeing and now.cards.get(key[0], (0, "gone", ()))[1] == OK
            self.uses[key].pass_time(now.at_ms, unseen_ms, there=key in there, seen=seen)
        wrong = self.wrong(now, surely=True) if seeing else set()
        doubtful = self.wrong(now)
        told = {(one.uuid, one.who) for one in self.open.values()}
        for key in [key for key in self.since if key not in wrong]:
            del self.since[key]
            if key in self.overdue and key not in told:
                self.fail(MISSED, f"{key[1]} on {key[0]} since {self.overdue[key]}")
            self.overdue.pop(key, None)
        for key in wrong:
            since = self.since.setdefault(key, now.at_ms)
            if key not in told and now.at_ms > since + self.promise.bound:
                self.overdue.setdefault(key, since)
        for name, one in self.open.items():
            self._follow(name, one, now, seeing=seeing, stands=(one.uuid, one.who) in doubtful)

    def _follow(self, name: str, one: Accusation, now: Sight, *, seeing: bool, stands: bool) -> None:
        _, state, _ = now.cards.get(one.uuid, (0, "gone", ()))
        if stands or not seeing or state != OK:
            one.wrong_ms = None
            return
        one.wrong_ms = one.wrong_ms or now.at_ms
        if not one.counted and now.at_ms > one.wrong_ms + self.promise.interval + self.promise.slack:
            one.counted = True
            self.fail(
                FALSE, f"{name}: {one.who} is still accused on {one.uuid}, wrongly since {one.wrong_ms}"
            )

    def end(self, now: Sight) -> None:
        """Count what is still untold."""
        self.pass_time(now, seeing=True)
        for key, since in self.overdue.items():
            self.fail(MISSED, f"{key[1]} on {key[0]} since {since}")

    def looked(self, sight: Sight, now: Sight | None = None) -> None:
        """Take the truth beside a scan whose outcome comes next, and that of its end."""
        self.sight, self.throughout = sight, sight.until(now or sight)
        self.members |= set(self._members(sight, now)) if now else set()
        for key in self.wrong(sight):
            self.looks[key] = sight.at_ms
        for uuid, (
            _,
            state,
            processes,
        ) in self.throughout.cards.items():  # Nobody knows whose what ended was.
            holder = self.holders.get(uuid)
            if holder is None or state != OK or not in_use(uuid, processes):
                continue
            if any(self.rightful(one, uuid) for one in counted(processes)):
                holder.used_ms = sight.at_ms

    def restarted(self) -> None:
        """Take it that a new daemon knows the members of runs that the last scan saw on cards in use."""
        there = [
            one
            for uuid, (_, state, processes) in self.throughout.cards.items()
            if state == OK and in_use(uuid, processes)
            for one in counted(processes)
        ]
        self.members &= {one.name for one in there}

    def _members(self, sight: Sight, now: Sight) -> Iterator[str]:
        for _, state, processes in self.throughout.cards.values():
            for one in processes if state == OK else ():
                if one.run and descends(one, sight.processes) and descends(one, now.processes):
                    yield one.name

    def hear(self, event_type: str, data: dict[str, Any], now: Sight, sure: Sight | None = None) -> None:
        """Judge one event of the product; `sure` is what was so all through the scan."""
        noun, _, verb = event_type.removeprefix("canhazgpu.").partition(".")
        if noun == "violation":
            self._violation(verb, data, now, sure)
        elif (noun, verb) == ("reservation", "created"):
            self._created(data, now)
        elif (noun, verb) == ("reservation", "released"):
            self._released(data, now)
        elif (noun, verb) == ("reservation", "disowned"):
            self._disowned(data, now)

    def _violation(self, verb: str, data: dict[str, Any], now: Sight, sure: Sight | None) -> None:
        name, uuid, hint = data["violation"], data["gpu_uuid"], data.get("hint") or {"user": ""}
        who = data["person"] or f"?{hint['user']}"
        if verb == "closed":
            self.open.pop(name, None)
            self.uses.pop((uuid, who), None)
            if (uuid, who) not in self.wrong(sure or self.sight.until(now), surely=True):
                self._begin_anew((uuid, who), now)
            return
        accusation = self.open.setdefault(name, Accusation(uuid, who))
        accusation.uuid, accusation.who = uuid, who
        column = self._column(verb, data, Accusation(uuid, who), now)
        if column:
            self.fail(column, f"{verb} {name}: {json.dumps(data)[:600]}")
        late = self.overdue.pop((uuid, who), None)
        if late is not None:
            self.fail(LATE, f"{name}: {who} on {uuid} since {late} told at {data['since']}")

    def _begin_anew(self, key: Key, now: Sight) -> None:
        """Take it that a scan saw nobody there: one ended in it, and another came."""
        if key in self.since:
            self.since[key] = now.at_ms
        self.overdue.pop(key, None)

    def _column(self, verb: str, data: dict[str, Any], said: Accusation, now: Sight) -> str | None:
        uuid, who = said.uuid, said.who
        index, _, processes = self.sight.cards.get(uuid, (-1, "", ()))
        if verb == "updated" and uuid not in self.sight.cards:  # It says where a missing card is shown.
            return GPU if data["gpu"] in {one[0] for one in self.sight.cards.values()} else None
        if index != data["gpu"]:
            return GPU
        there = {one.pid for one in processes}
        elsewhere = {one.pid for _, _, others in self.sight.cards.values() for one in others}
        for pid in (one["pid"] for one in data["processes"]):
            if pid not in there or who not in self._names(pid, now):
                return PERSON if pid in there else GPU if pid in elsewhere else FALSE
        if self.looks.get((uuid, who)) != self.sight.at_ms:
            return FALSE
        return FALSE if verb == "opened" and self._was_short((uuid, who)) else None

    def _was_short(self, key: Key) -> bool:
        """Tell whether it was too little use to be told of; what comes now counts anew."""
        enough = self.uses[key].enough(self.promise.confirm)
        self.uses[key] = Use(bursts=1, last_ms=self.uses[key].last_ms, there=True)
        return enough < self.promise.confirm - self.promise.slack

    def _created(self, data: dict[str, Any], now: Sight) -> None:
        by_index = {index: uuid for uuid, (index, _, _) in self.sight.cards.items()}
        request = self.requests.get(data["id"])
        if request is None:
            self.fail(PERSON, f"a reservation nobody asked for: {json.dumps(data)}")
            return
        request.live, request.used_ms, request.since_ms = True, 0, now.at_ms
        if data["user"] != ("root" if request.kind.startswith("sudo") else request.person):
            self.fail(PERSON, f"reserved for another: {json.dumps(data)}")
        for index in data["gpus"]:
            uuid = by_index.get(index)
            if uuid is None:
                self.fail(GPU, f"a card that is not there was granted: {json.dumps(data)}")
                continue
            if uuid in self.holders:
                self.fail(GRANTED, f"{uuid} is {self.holders[uuid].person}'s already: {json.dumps(data)}")
            self.holders[uuid] = request
            if not self._may_have(request, uuid, now):
                self.fail(GRANTED, f"{uuid}: {json.dumps(data)}")

    def _may_have(self, request: Request, uuid: str, now: Sight) -> bool:
        _, _, then = self.sight.cards[uuid]
        _, _, today = now.cards.get(uuid, (0, "", ()))
        names = {(one.pid, one.start, one.name) for one in then}
        both = tuple(one for one in today if (one.pid, one.start, one.name) in names)
        if not in_use(uuid, both):
            return True
        adopts = request.kind.endswith(("manual", "manual-wait"))
        return adopts and all(one.proven and one.author == request.person for one in counted(both))

    def _released(self, data: dict[str, Any], now: Sight) -> None:
        request = self.requests[data["id"]]
        cards = [uuid for uuid, holder in self.holders.items() if holder is request]
        if data["reason"] == "idle" and now.at_ms - request.used_ms < self.promise.idle - self.promise.slack:
            self.fail(IDLE, f"used {now.at_ms - request.used_ms} ms before: {json.dumps(data)}")
        kept = data.get("kept") or ()
        for uuid in cards:
            index, state, processes = self.sight.cards.get(uuid, (-1, "gone", ()))
            if index in kept:
                continue
            _, _, today = now.cards.get(uuid, (0, "", ()))
            own = [one for one in processes if one in today and self.rightful(one, uuid)]
            del self.holders[uuid]
            if data["reason"] == "exited" and state == OK and in_use(uuid, processes) and counted(tuple(own)):
                self.fail(IDLE, f"its run is on {uuid} still: {json.dumps(data)}")
        request.live = bool(kept)

    def _disowned(self, data: dict[str, Any], now: Sight) -> None:
        """Follow what a holder says of the containers that the last scan saw; an answer names no others."""
        request, by_index = (
            self.requests[data["id"]],
            {one[0]: uuid for uuid, one in self.sight.cards.items()},
        )
        for index in data["gpus"]:
            uuid = by_index.get(index, "")
            if data["disowned"] is None:
                for gone in [uuid] if uuid else {one for one, _ in request.doubted} - self.sight.cards.keys():
                    request.own_again(gone)
                continue
            _, state, sure = self.throughout.cards.get(uuid, (-1, "gone", ()))
            _, _, then = self.sight.cards.get(uuid, (-1, "", ()))
            _, _, today = now.cards.get(uuid, (-1, "", ()))
            there = [f"{one.box:012x}" for one in (*then, *today) if not bound_to(one, request)]
            if not all(user.endswith((*there, "unknown")) for user in data["disowned"]):
                self.fail(PERSON, f"disowned, and not there: {json.dumps(data)}")
            seen = sure if state == OK and in_use(uuid, sure) else ()
            request.disown(uuid, seen, (*then, *today))

    def shown(self, person: str | None, pid: int, now: Sight) -> None:
        """Judge whose a process is said to be, as status shows it."""
        authors = self._authors(pid, now)
        if person is not None and person not in authors:
            self.fail(PERSON, f"pid {pid} is shown as {person}'s, and is {' or '.join(sorted(authors))}'s")

    def _authors(self, pid: int, now: Sight) -> set[str]:
        """Return whose a pid was when the cards were read, and whose it was when /proc was."""
        return {one.author for one in self._seen(pid, now)}

    def _names(self, pid: int, now: Sight) -> set[str]:
        """Return whom an accusation may name for a pid."""
        seen = self._seen(pid, now)
        return {one.author for one in seen} | {one.who for one in seen}

    def _seen(self, pid: int, now: Sight) -> list[Process]:
        seen = [one for _, _, processes in self.sight.cards.values() for one in processes]
        return [one for one in (*seen, *now.processes) if one.pid == pid]

    def held(self, uuid: str, index: int, reservation: str | None) -> None:
        """Judge who is shown to hold a card, and as which number it is shown."""
        holder = self.holders.get(uuid)
        if (holder.id if holder else None) != reservation:
            self.fail(GPU, f"{uuid} is shown as held by {reservation}, and is {holder}'s")
        if uuid in self.sight.cards and self.sight.cards[uuid][0] != index:
            self.fail(GPU, f"{uuid} is shown as {index}, and is {self.sight.cards[uuid][0]}")


def uid_of(person: str) -> int:
    """Return a person's uid."""
    return EVERYBODY[person]
