"""What each moment of a GPU was: the log of its use laid over its reservations. Pure functions."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple, TypeVar

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# What a moment of a GPU can be; `trespass` is beside the sum: others used what somebody had reserved.
CATEGORIES = (
    "active",
    "idle",
    "unused",
    "unseen",
    "unreserved",
    "free",
    "out_of_service",
    "unknown",
    "trespass",
)
ACTIVE, IDLE, UNUSED, UNSEEN, UNRESERVED, FREE, OUT, UNKNOWN, TRESPASS = range(len(CATEGORIES))
NOBODY = ""
LEVELS = {"free": FREE, "out": OUT}
DIVIDED = "divided"  # Its MIG instances count, each as a GPU.


class Entry(NamedTuple):
    """An entry of the log of use, from `ms` to the next one. `holder`: the uid that held it then, or -1."""

    ms: int
    level: str
    holder: int
    users: tuple[str, ...]


class Hold(NamedTuple):
    """A reservation of one GPU."""

    start: int
    end: int
    uid: int


class Share(NamedTuple):
    """So many milliseconds, from `ms` on, were of this category, and of this user (NOBODY: of nobody)."""

    ms: int
    user: str
    category: int
    length: int


T = TypeVar("T", Entry, Hold)
NOTHING_SEEN = Entry(0, "unknown", -1, ())


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order of time. One that was written later replaces those that are later."""
    kept: list[Entry] = []
    for entry in entries:
        while kept and kept[-1].ms >= entry.ms:
            kept.pop()
        kept.append(entry)
    return kept


def without_overlaps(holds: Iterable[Hold]) -> list[Hold]:
    """Return the reservations of one GPU so that none overlaps: the one that begins later counts."""
    kept: list[Hold] = []
    for hold in sorted(hold for hold in holds if hold.end > hold.start):
        if kept and kept[-1].start == hold.start:
            kept.pop()
        elif kept and kept[-1].end > hold.start:
            kept[-1] = kept[-1]._replace(end=hold.start)
        kept.append(hold)
    return kept


def classify(
    entries: Sequence[Entry], holds: Sequence[Hold], marks: Sequence[int], first_ms: int | None
) -> Iterator[Share]:
    """Yield what a GPU was from the first of `marks` to the last; no share goes across a mark.

    `first_ms`: when the GPU was first seen; what was not seen before that does not count, unless it was
    reserved.
    """
    begin, end = marks[0], marks[-1]
    entries, holds = _around(entries, begin, end), _around(holds, begin, end)
    moments = {
        *marks,
        *(one.ms for one in entries),
        *(one.start for one in holds),
        *(one.end for one in holds),
    }
    moments = {one for one in moments if begin <= one <= end}
    if first_ms is not None and begin < first_ms < end:
        moments.add(first_ms)
    place = reserved = -1
    for start, stop in pairwise(sorted(moments)):
        while place + 1 < len(entries) and entries[place + 1].ms <= start:
            place += 1
        while reserved + 1 < len(holds) and holds[reserved + 1].start <= start:
            reserved += 1
        entry = entries[place] if place >= 0 else NOTHING_SEEN
        hold = holds[reserved] if reserved >= 0 and start < holds[reserved].end else None
        if hold or (first_ms is not None and start >= first_ms):
            yield from _moment(entry, hold, start, stop - start)


def _moment(entry: Entry, hold: Hold | None, start: int, length: int) -> Iterator[Share]:
    in_use = entry.level in {"busy", "idle"}
    if entry.level == DIVIDED:
        return
    if hold:
        holder = f"uid:{hold.uid}"
        others = [user for user in entry.users if user != holder]
        category = UNSEEN if entry.level == "unknown" else UNUSED
        if in_use and holder in entry.users:
            category = ACTIVE if entry.level == "busy" else IDLE
        yield Share(start, holder, category, length)
        yield from _split(others, start, TRESPASS, length)
    elif in_use and entry.holder < 0 and entry.users:
        yield from _split(entry.users, start, UNRESERVED, length)
    else:  # Between a release and the next scan, nobody knows whether it is still in use.
        yield Share(start, NOBODY, LEVELS.get(entry.level, UNKNOWN), length)


def _split(users: Sequence[str], start: int, category: int, length: int) -> Iterator[Share]:
    """Yield a time in equal parts for its users."""
    for position, user in enumerate(users):
        part = length // len(users) + (position < length % len(users))
        yield Share(start, user, category, part)


def _around(of: Sequence[T], begin: int, end: int) -> Sequence[T]:
    """Return those that begin in a period, and the last one before it. They are in the order of time."""
    first = itemgetter(0)
    return of[max(0, bisect_right(of, begin, key=first) - 1) : bisect_right(of, end, key=first)]
