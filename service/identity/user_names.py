"""Names of users from the host's user database. Look-ups never run on the event loop, because LDAP may hang.

Users of the host's own file need none, so that a directory that hangs keeps nobody from being known who is
not its own.
Answers age, because users are renamed and uids are given to others. "No such user" is asked again soon,
because that is also what a directory that is away answers; until it is back the last name is kept.
"""

import pwd
import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import anyio.to_thread
import msgspec

from canhazgpu.events.sanitize import printable
from canhazgpu.service.identity.local_users import LocalUsers

PATIENCE = 0.25  # Seconds for which a new look-up may delay a scan, once.
CALLER_PATIENCE = 2.0  # Seconds that a request waits for its caller's name.
FRESH = 600.0  # Seconds until a name is looked up again,
RETRY = 30.0  # a missing one,
KEPT = 3600.0  # and for how long the last name is used while the directory has none.
LOOK_UPS = 4  # Concurrent look-ups. Each is a thread that may hang in the C library.
MOST = 65536
MOST_DIGITS = 10  # Of a uid.


class HomeOf(NamedTuple):
    """Asks for the home of a uid."""

    uid: int


Key = int | str | HomeOf  # A uid asks for its name, a name for its uid.


_Asked = TypeVar("_Asked")
_Told = TypeVar("_Told")


class _Answer(msgspec.Struct, frozen=True):
    value: str | int | None
    asked: float
    confirmed: float  # When the database last gave this value.


class Users:
    """Answers immediately from a cache: `name`, `uid` and `home` are None if they are not known (yet)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, local: LocalUsers | None = None) -> None:
        """Prepare; threads start with the first look-up and never keep the process from ending."""
        self._clock = clock
        self._local = local or LocalUsers()
        self._answers: dict[Key, _Answer] = {}
        self._asking: dict[Key, float] = {}
        self._changed = threading.Condition()
        self._queue: SimpleQueue[Key] = SimpleQueue()
        self._threads = 0
        self._believed: Mapping[int, str] = {}
        self.generation = 0  # Grows with each answer that differs from the one before.

    def name(self, uid: int) -> str | None:
        """Return a user's name, safe to print."""
        found = self._get(uid)
        return found if isinstance(found, str) else self._believed.get(uid)

    def believe(self, names: Mapping[int, str]) -> None:
        """Take these names of uids where the database gives none: what they were called when it answered."""
        if names != self._believed:
            self._believed = names
            self.generation += 1

    def uid(self, name: str) -> int | None:
        """Return a user's uid."""
        found = self._get(name)
        return found if isinstance(found, int) else None

    def home(self, uid: int) -> str | None:
        """Return a user's home according to the database."""
        found = self._get(HomeOf(uid))
        return found if isinstance(found, str) else None

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait for running look-ups, for each at most `patience` seconds since it started."""
        with self._changed:
            while self._asking:
                left = max(self._asking.values()) + patience - self._clock()
                if left <= 0:
                    return
                self._changed.wait(left)

    def ask(self, question: Callable[[_Asked], _Told | None], key: _Asked, until: float) -> _Told | None:
        """Call a look-up such as `name` and wait for its answer until a deadline. Blocks."""
        found = question(key)
        if found is None:
            self.wait(until - self._clock())
            found = question(key)
        return found

    async def settle(self, patience: float = PATIENCE) -> None:
        """Wait like `wait`, without blocking the loop."""
        if any(began + patience > self._clock() for began in list(self._asking.values())):
            await anyio.to_thread.run_sync(self.wait, patience, abandon_on_cancel=True)

    async def name_of(self, uid: int, patience: float = CALLER_PATIENCE) -> str:
        """Return a user's name, or the uid as text if there is no name within `patience` seconds."""
        if self.name(uid) is None:
            await self.settle(patience)
        return self.name(uid) or str(uid)

    async def uid_of(self, name: str, patience: float = CALLER_PATIENCE) -> int | None:
        """Return a user's uid, or None if there is none within `patience` seconds."""
        if self.uid(name) is None:
            await self.settle(patience)
        return self.uid(name)

    async def uid_meant(self, word: str) -> int | None:
        """Return the uid of a name, of one that is only believed too; a number that is no name is one."""
        uid = await self.uid_of(word)
        if uid is None:
            uid = next((uid for uid, name in self._believed.items() if name == word), None)
        if uid is None and word.isascii() and word.isdecimal() and len(word) <= MOST_DIGITS:
            uid = int(word)
        return uid

    def _get(self, key: Key) -> str | int | None:
        known = self._answers.get(key)
        now = self._clock()
        age = FRESH if known and known.value is not None and known.asked == known.confirmed else RETRY
        if (known is None or now - known.asked >= age) and key not in self._asking:
            local = self._from_file(key)
            if local is None:
                self._ask(key, now)
            else:
                self._keep(key, local, now)
                return local
        return known.value if known else None

    def _from_file(self, key: Key) -> str | int | None:
        if isinstance(key, str):
            user = self._local.by_name(key)
            return user.uid if user else None
        user = self._local.by_uid(key.uid if isinstance(key, HomeOf) else key)
        if user is None:
            return None
        return user.home if isinstance(key, HomeOf) else user.name

    def _ask(self, key: Key, now: float) -> None:
        with self._changed:
            self._asking[key] = now
            if self._threads < min(LOOK_UPS, len(self._asking)):
                self._threads += 1
                threading.Thread(target=self._look_up, name="users", daemon=True).start()
        self._queue.put(key)

    def _look_up(self) -> None:
        while True:
            key = self._queue.get()
            self._keep(key, _look_up(key), self._clock())

    def _keep(self, key: Key, value: str | int | None, now: float) -> None:
        with self._changed:
            before = self._answers.get(key)
            if len(self._answers) >= MOST:
                self._answers.clear()
            kept = value is None and before and now - before.confirmed < KEPT
            if before and kept:
                answer = _Answer(before.value, now, before.confirmed)
            else:
                answer = _Answer(value, now, now)
            self._answers[key] = answer
            self.generation += before is None or before.value != answer.value
            self._asking.pop(key, None)
            self._changed.notify_all()


def _look_up(key: Key) -> str | int | None:
    try:
        if isinstance(key, HomeOf):
            return pwd.getpwuid(key.uid).pw_dir
        return printable(pwd.getpwuid(key).pw_name) if isinstance(key, int) else pwd.getpwnam(key).pw_uid
    except (KeyError, ValueError, OverflowError, OSError):  # ValueError: a NUL in the name.
        return None
