"""Finds the probable user of a container process if no user is proven. A hint is never proof.

The user who starts a container can forge all of it. docs/architecture.md describes the sources.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import anyio.to_thread
import msgspec

from canhazgpu.events.gpu import Hint
from canhazgpu.events.sanitize import LONGEST_WORDS, NAME_LIMIT, printable
from canhazgpu.service.identity import docker_api
from canhazgpu.service.identity.docker_api import ContainerFacts, DockerAway
from canhazgpu.service.identity.home_mounts import HomeMounts
from canhazgpu.service.identity.ordinary_users import OrdinaryUsers
from canhazgpu.service.identity.process_facts import Facts
from canhazgpu.service.identity.user_names import Users

PATIENCE = (
    0.25  # Seconds for which new processes may delay a scan; if that is too short, no scan waits for RETRY.
)
DEADLINE = 2.0  # Seconds for the name look-ups of one process.
FRESH = 600.0  # Seconds until a hint is refreshed,
RETRY = 30.0  # and the first delay if a source did not answer or nothing was found; doubled each time.
LOOK_UPS = 2  # Concurrent look-ups. Each is a thread that may hang on a file system or a daemon.
MOST = 4096
LARGEST_ENVIRONMENT = 2**18  # Bytes of it that are read.
USER_LABELS = ("canhazgpu.user",)
FOLDER_LABELS = ("com.docker.compose.project.working_dir", "devcontainer.local_folder")
VARIABLES = ("CANHAZGPU_USER", "JUPYTERHUB_USER", "NB_USER", "SUDO_USER", "USER", "LOGNAME")
_ASKED_OF_DOCKER = frozenset({"docker", "container"})  # The latter: a cgroup of the site's choosing.

Candidates = Iterator[tuple[int | None, str]]  # Uids, and sentence fragments with the reasons.


class Clue(msgspec.Struct, frozen=True):
    """The additional facts about a container process; both may be None."""

    hint: Hint | None = None
    container: str | None = None  # Its container's name.


class _Known(msgspec.Struct):
    start: int
    clue: Clue
    due: float
    pause: float = RETRY / 2
    asked: bool = False
    new: bool = True  # There was no result yet.


class Hints:
    """Returns known hints immediately, and looks for more in background threads.

    Invariant: there is a hint only if all results of the strongest source with results name the same user.
    """

    def __init__(
        self,
        docker_socket: str,
        proc: Path = Path("/proc"),
        etc: Path = Path("/etc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Threads start with the first process. Docker is asked only if `docker_socket` is set."""
        self._socket = docker_socket
        self._proc = proc
        self._clock = clock
        # Separate from those of attribution, whose look-ups delay a scan.
        self._users = Users()
        self._persons = OrdinaryUsers(self._users, etc)
        self._homes = HomeMounts(self._users, self._persons, proc)
        self._known: dict[int, _Known] = {}
        self._queue: SimpleQueue[tuple[int, Facts, _Known]] = SimpleQueue()
        self._threads = 0
        self._changed = threading.Condition()
        self._new = 0
        self._hurry = clock()  # Until when no scan waits.
        self.generation = 0  # Grows with each answer that differs from the one before.

    def of(self, pid: int, facts: Facts) -> Clue:
        """Return the facts known so far about a container process without a proven user."""
        known = self._known.get(pid)
        now = self._clock()
        if known is None or known.start != facts.start:
            if len(self._known) >= MOST:
                self._known.clear()
            known = self._known[pid] = _Known(facts.start, Clue(), now)
        if not known.asked and now >= known.due:
            known.asked = True
            with self._changed:
                self._new += known.new
            self._queue.put((pid, facts, known))
            if self._threads < LOOK_UPS:
                self._threads += 1
                threading.Thread(target=self._work, name="hints", daemon=True).start()
        return known.clue

    def remember(self, pid: int, start: int, clue: Clue) -> None:
        """Use what was found before this service started, until there is another result."""
        self._known[pid] = _Known(start, clue, self._clock(), new=False)

    async def settle(self) -> None:
        """Wait for first results for new processes, so that a scan presumes nothing that the next denies."""
        if self._new and self._clock() >= self._hurry:
            await anyio.to_thread.run_sync(self._wait, time.monotonic() + PATIENCE, abandon_on_cancel=True)
            if self._new:
                self._hurry = self._clock() + RETRY

    def _wait(self, until: float) -> None:
        with self._changed:
            while self._new and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _work(self) -> None:
        while True:
            pid, facts, known = self._queue.get()
            clue, complete = known.clue, True
            if self._known.get(pid) is known:
                clue, complete = self._look(pid, facts)
            if not complete and known.clue.hint:
                clue = known.clue  # What was found stands while what said so is away.
            known.pause = FRESH if complete and clue.hint else min(known.pause * 2, FRESH)
            changed, known.clue = clue != known.clue, clue
            with self._changed:
                self.generation += changed
                self._new -= known.new
                known.new = False
                self._changed.notify_all()
            known.due, known.asked = self._clock() + known.pause, False

    def _look(self, pid: int, facts: Facts) -> tuple[Clue, bool]:
        """Return the result, and whether all sources answered."""
        until = time.monotonic() + DEADLINE
        self._persons.refresh()
        docker, complete = None, True
        if self._socket and facts.container and facts.container.runtime in _ASKED_OF_DOCKER:
            try:
                docker = docker_api.inspect(self._socket, facts.container.id)
            except DockerAway:
                complete = False
        try:
            clue = Clue(self._best(pid, facts, docker, until), printable(docker.name) if docker else None)
        except (OSError, ValueError):  # It has ended.
            return Clue(), True
        return clue, complete and time.monotonic() < until

    def _best(self, pid: int, facts: Facts, docker: ContainerFacts | None, until: float) -> Hint | None:
        for candidates in self._ranks(pid, facts, docker, until):
            found: dict[int, Hint] = {}
            for uid, source in candidates:
                name = None if uid is None else self._users.ask(self._users.name, uid, until)
                if uid is not None and name and self._persons.includes(uid):
                    found.setdefault(uid, Hint(user=name, uid=uid, source=printable(source, LONGEST_WORDS)))
            if found:
                return found.popitem()[1] if len(found) == 1 else None
        return None

    def _ranks(
        self, pid: int, facts: Facts, docker: ContainerFacts | None, until: float
    ) -> Iterator[Candidates]:
        """Yield the results of the sources, the strongest first."""
        where = _where(facts, docker)
        labels = docker.labels if docker else {}
        mounted = self._homes.mounted(pid, facts.container.id if facts.container else None, until)
        yield ((one.uid, f"{where} has {one.path} mounted") for one in mounted if one.writable)
        yield (
            (self._uid(labels[label], until), _labelled(where, label, labels[label]))
            for label in USER_LABELS
            if label in labels
        )
        yield (
            (self._homes.owner(labels[label], until), _labelled(where, label, labels[label]))
            for label in FOLDER_LABELS
            if labels.get(label, "").startswith("/")
        )
        yield ((one.uid, f"{where} has {one.path} mounted read-only") for one in mounted if not one.writable)
        yield (
            (self._uid(value, until), f"its environment has {name}={value}")
            for name, value in self._environment(pid, docker)
        )
        yield self._user(pid, facts, docker)

    def _uid(self, name: str, until: float) -> int | None:
        """Return the uid of a name; text that cannot be a name is not looked up."""
        if len(name) > NAME_LIMIT or not name.isprintable():
            return None
        return self._users.ask(self._users.uid, name, until)

    def _environment(self, pid: int, docker: ContainerFacts | None) -> Iterator[tuple[str, str]]:
        """Return the variables that name a user, except those of the image."""
        try:
            with (self._proc / str(pid) / "environ").open("rb") as file:
                text = file.read(LARGEST_ENVIRONMENT).decode("utf-8", "backslashreplace")
        except PermissionError:
            return
        for entry in text.split("\0"):
            name, _, value = entry.partition("=")
            if name in VARIABLES and value and not (docker and entry in docker.image_environment):
                yield name, value

    def _user(self, pid: int, facts: Facts, docker: ContainerFacts | None) -> Candidates:
        """Return the uid that was chosen by the user who started the container, not by the image."""
        uid = _uid_inside(self._proc / str(pid), facts.uid)
        if docker and docker.user and docker.user.partition(":")[0] == str(uid):
            yield uid, f"{_where(facts, docker)} was started with --user {uid}"


def _where(facts: Facts, docker: ContainerFacts | None) -> str:
    if docker:
        return f'container "{printable(docker.name)}"'
    return f"{facts.container.runtime} {facts.container.id[:12]}" if facts.container else "its container"


def _labelled(where: str, label: str, value: str) -> str:
    return f"{where} has the label {label}={value}"


def _uid_inside(folder: Path, uid: int) -> int:
    """Return the uid of a process in its own user namespace."""
    for line in (folder / "uid_map").read_text().splitlines():
        inside, outside, count = map(int, line.split())
        if outside <= uid < outside + count:
            return inside + uid - outside
    return uid
