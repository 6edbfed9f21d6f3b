"""Attributes processes to users by evidence from /proc. It never guesses; the result may be unknown.

docs/architecture.md has a table of the kinds of evidence, who could forge them, and what follows from them.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from canhazgpu.events.gpu import ProcessReading, ProcessUse, RunMember
from canhazgpu.events.linux.processes import EXHAUSTED, START_FIELD, Process
from canhazgpu.events.sanitize import printable
from canhazgpu.service.identity.container_hints import Clue, Hints
from canhazgpu.service.identity.executables import executable_of
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.process_facts import Facts, read_facts, run_of
from canhazgpu.service.identity.user_names import Users

LONGEST_LIST = 4096
UNKNOWN_PROCESS = "unknown process"


class _Known(msgspec.Struct):
    owner: int
    facts: Facts
    runs: frozenset[str]
    generation: int
    use: ProcessUse


class Attributor:
    """Attributes processes. The facts about a process are read once and cached while it lives."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        etc: Path = Path("/etc"),
        users: Users | None = None,
        hints: Hints | None = None,
    ) -> None:
        """Read the uid ranges of users from `etc`; processes are read from `proc`.

        `users` resolves names; `hints` finds the probable users of container processes.
        """
        self._proc = proc
        self.users = users or Users()
        self.persons = OrdinaryUsers(self.users, etc)
        self.runs: Mapping[str, Process] = {}  # The first processes of the runs that live, by reservation.
        self._members: dict[Process, str] = {}  # Of runs, as an earlier service saw them.
        self._known: dict[int, _Known] = {}
        self._hints = hints
        self._generation = self._answered()

    def attribute(self, process: ProcessReading) -> ProcessUse | None:
        """Return whose the process is, or None when it has gone and was not made up whole.

        Raises OSError if EXHAUSTED: a process that cannot be looked at has not gone.
        """
        if process.unseen:
            return ProcessUse(
                pid=process.pid, name=UNKNOWN_PROCESS, user="unknown", memory_mb=process.memory_mb
            )
        found = self._of_system(process.pid)
        if process.user is None and process.name is None:
            return _with_memory(found, process.memory_mb) if found else None
        if found is None and (process.user is None or process.name is None):
            return None
        base = found or ProcessUse(pid=process.pid, name="", user="", memory_mb=None)
        changes: dict[str, object] = {"memory_mb": process.memory_mb}
        if process.name is not None:
            changes["name"] = changes["program"] = printable(process.name)
        if process.user is not None:
            user = printable(process.user)
            uid = self.users.uid(process.user)
            changes |= {"user": user, "person": user, "evidence": "uid", "uid": uid, "hint": None}
            if uid is not None and self.persons.includes(uid):
                changes["login_uid"] = None
        return msgspec.structs.replace(base, **changes)

    def remember(self, processes: Iterable[ProcessUse | RunMember]) -> None:
        """Keep the runs and the hints of processes that were attributed before this service started.

        Processes that were attributed since, while Redis was away, are read again.
        """
        self._known.clear()
        for one in processes:
            if one.start is None:
                continue
            if one.run is not None:
                self._members[Process(one.pid, one.start)] = one.run
            if self._hints and isinstance(one, ProcessUse) and one.hint:
                clue = Clue(one.hint, one.container.name if one.container else None)
                self._hints.remember(one.pid, one.start, clue)

    async def settle(self) -> bool:
        """Wait a moment for outstanding names and hints; return whether earlier answers are out of date.

        Until they are known, the uid is shown instead of the name, and there is no hint.
        """
        self.persons.refresh()
        await self.users.settle()
        if self._hints:
            await self._hints.settle()
        before, self._generation = self._generation, self._answered()
        return before != self._generation

    def _of_system(self, pid: int) -> ProcessUse | None:
        folder = f"{self._proc}/{pid}"
        try:
            with open(f"{folder}/stat", "rb") as file:  # noqa: PTH123 - called for each process of each scan
                stat = file.read()
            end = stat.rindex(b")")
            name = printable(stat[stat.index(b"(") + 1 : end])
            fields = stat[end + 2 :].split()
            start = int(fields[START_FIELD])
            owner = os.stat(folder).st_uid  # noqa: PTH116 - as above
            known = self._known.get(pid)
            same = known is not None and self._is_same(known, folder, owner, start, name)
            if known is None or not same:
                before = known.facts if known and known.facts.start == start else None
                run = (before.run if before else None) or self._members.get(Process(pid, start))
                facts = read_facts(self._proc, folder, start, name, run, before)
                known = _Known(owner, facts, frozenset(), -1, _nobody(pid, facts))
        except (OSError, ValueError, IndexError) as error:
            if isinstance(error, OSError) and error.errno in EXHAUSTED:
                raise
            self._known.pop(pid, None)
            return None
        if len(self._known) >= LONGEST_LIST:
            self._known.clear()
        self._known[pid] = known
        self._follow_runs(known, pid)
        for uid in (known.facts.uid, known.use.uid):
            if uid is not None:
                self.users.name(uid)  # Asks again where it is time to.
        answered = self._answered()  # Before they are used: what comes meanwhile is used at the next scan.
        if known.generation != answered:
            known.use = self._use(pid, known.facts)
            known.generation = answered
        elif self._hints and known.use.person is None and not known.facts.on_host:
            self._hints.of(pid, known.facts)  # Looks again where it is time to.
        return known.use

    def _answered(self) -> int:
        """Return a number that grows with each answer that came late, or is another now."""
        hints = self._hints.generation if self._hints else 0
        return self.users.generation + self.persons.generation + hints

    def _is_same(self, known: _Known, folder: str, owner: int, start: int, name: str) -> bool:
        facts = known.facts
        if (known.owner, facts.start, facts.name) != (owner, start, name):
            return False
        # Another program under the same name is seen where the first is a proof.
        return facts.program is None or facts.executable is None or executable_of(folder) == facts.executable

    def _use(self, pid: int, facts: Facts) -> ProcessUse:
        owner, evidence = self._climb(facts)
        person = None if owner is None else self.users.name(owner) or str(owner)
        base = _nobody(pid, facts)
        if owner is None:
            if not facts.on_host:
                return _with_clue(base, self._hints.of(pid, facts)) if self._hints else base
            shown = self.users.name(facts.uid) or str(facts.uid)
            return msgspec.structs.replace(base, user=shown, unnamed=self.persons.could_include(facts.uid))
        # A person of their own: `su - bob` and a batch system that an administrator started have their login.
        login = None if evidence == "uid" else facts.login_uid
        return msgspec.structs.replace(
            base, user=person, uid=owner, person=person, evidence=evidence, reservation=None, login_uid=login
        )

    def _climb(self, facts: Facts) -> tuple[int | None, str]:
        """Return the uid of the user, and the kind of evidence."""
        if (facts.on_host or facts.by_parents) and self.persons.includes(facts.uid):
            return facts.uid, "uid"
        mapped = self._mapped(facts)
        if mapped is not None and self.persons.includes(mapped):
            return mapped, "uid" if mapped == facts.uid else "subuid"
        if facts.own_slice is not None and self.persons.includes(facts.own_slice):
            return facts.own_slice, "slice"
        if facts.login_uid is not None and self.persons.includes(facts.login_uid):
            return facts.login_uid, "loginuid"
        return None, "unknown"

    def _mapped(self, facts: Facts) -> int | None:
        """Return the owner of the process's user namespace, or None if it is not certain.

        Inside a container of the host, any user can create a user namespace with any uid of the image. So it
        counts in a container only if it is also in its creator's slice.
        """
        namespaces = facts.namespaces
        if not namespaces.mapped:
            return None
        owner = namespaces.owner if namespaces.known else self.persons.owner_of_subuid(facts.uid)
        return owner if facts.container is None or owner == facts.in_slice else None

    def _follow_runs(self, known: _Known, pid: int) -> None:
        """Find the run that a process belongs to. The result is kept even if processes in between end."""
        if known.facts.run is not None or known.runs == self.runs.keys():
            return
        runs = dict(self.runs)
        run = run_of(self._proc, pid, known.facts, runs)
        known.runs = frozenset(runs)
        if run is not None:
            known.facts = msgspec.structs.replace(known.facts, run=run)
            known.generation = -1


def _nobody(pid: int, facts: Facts) -> ProcessUse:
    """Return a process without a proven user. In a container, the uid is chosen by the image."""
    shown = str(facts.uid)
    if not facts.on_host:
        where = f"{facts.container.runtime} {facts.container.id[:12]}" if facts.container else "a container"
        shown = f"{'root' if facts.uid == 0 else f'uid {facts.uid}'} in {where}"
    return ProcessUse(
        pid=pid,
        name=facts.name,
        user=printable(shown),
        memory_mb=None,
        uid=facts.uid if facts.on_host else None,
        start=facts.start,
        container=facts.container,
        reservation=facts.claim,
        run=facts.run,
        login_uid=facts.login_uid,
        program=facts.program,
        began_ms=facts.began_ms,
    )


def _with_clue(process: ProcessUse, clue: Clue) -> ProcessUse:
    container = process.container
    if container and clue.container:
        container = msgspec.structs.replace(container, name=clue.container)
    return msgspec.structs.replace(process, hint=clue.hint, container=container)


def _with_memory(process: ProcessUse, memory_mb: int | None) -> ProcessUse:
    return (
        process if process.memory_mb == memory_mb else msgspec.structs.replace(process, memory_mb=memory_mb)
    )
