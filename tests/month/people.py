"""The users of the simulated month: what they do with the GPUs, and how they can be reached."""

import heapq
import random
from collections.abc import Iterator
from itertools import count

import msgspec

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
GPUS = 16
USERS = [f"user{number:02}" for number in range(24)]
GOOD = frozenset(USERS[18:])  # They use what they have reserved, and nothing else.
SHY = frozenset({"user03", "user06"})  # They are never logged in.
WITHOUT_ADDRESS = frozenset({"user05", "user06"})
MAILBOX_FULL = frozenset({"user07", "user10", "user13"})  # The mail server refuses it for good.
LENGTHS = (3 * SECOND, 40 * SECOND, 3 * MINUTE, 25 * MINUTE, 3 * HOUR, 9 * HOUR, 40 * HOUR)
WEIGHTS = (3, 3, 4, 6, 5, 2, 1)


class Deed(msgspec.Struct, frozen=True):
    """One action of a user. `what` is start, stop, reserve, login, logout or silence."""

    what: str
    user: str
    gpus: tuple[int, ...] = ()
    length: int = 0


class Lives:
    """All actions of the month in order; the same for the same seed."""

    def __init__(self, seed: int, begin: int, days: int) -> None:
        self._random = random.Random(seed)
        self._rows: list[tuple[int, int, Deed]] = []
        self._numbers = count()
        self.end = begin + days * DAY
        for user in USERS:
            self._live(user, begin)

    def __iter__(self) -> Iterator[tuple[int, Deed]]:
        """Yield each action with its moment."""
        while self._rows:
            moment, _, deed = heapq.heappop(self._rows)
            yield moment, deed

    @property
    def next_ms(self) -> int | None:
        """Return the moment of the next action."""
        return self._rows[0][0] if self._rows else None

    def _put(self, moment: int, deed: Deed) -> None:
        if moment < self.end or deed.what == "stop":
            heapq.heappush(self._rows, (moment, next(self._numbers), deed))

    def _live(self, user: str, begin: int) -> None:
        rng, moment = self._random, begin
        while moment < self.end:
            moment += round(rng.expovariate(1 / (50 * HOUR))) + MINUTE
            if user in GOOD:
                gpu = (rng.randrange(GPUS),)
                length = rng.choice((HOUR, 6 * HOUR, 20 * HOUR))
                self._put(moment, Deed("reserve", user, gpu, length))
                self._put(moment + 5 * MINUTE, Deed("start", user, gpu))
                moment += length - MINUTE
                self._put(moment - MINUTE, Deed("stop", user, gpu))
            else:
                moment = self._job(user, moment)
        if user not in SHY:
            for day in range(begin, self.end, DAY):
                if rng.random() < 0.8:
                    self._put(day + rng.randrange(6, 11) * HOUR, Deed("login", user))
                    self._put(day + rng.randrange(14, 23) * HOUR, Deed("logout", user))
        if rng.random() < 0.4:
            at = begin + rng.randrange(20) * DAY + 9 * HOUR
            self._put(at, Deed("silence", user, length=rng.choice((2 * HOUR, 30 * HOUR))))

    def _job(self, user: str, moment: int) -> int:
        """Let a user use GPUs without a reservation, sometimes with short gaps."""
        rng = self._random
        gpus = tuple(sorted(rng.sample(range(GPUS), rng.choice((1, 1, 1, 2, 4, 8)))))
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            length = rng.choices(LENGTHS, WEIGHTS)[0] + rng.randrange(5 * SECOND)
            self._put(moment, Deed("start", user, gpus))
            self._put(moment + length, Deed("stop", user, gpus))
            moment += length + rng.randrange(3 * SECOND, 4 * MINUTE)
        return moment
