"""Ids of stream entries, `MS-NUMBER`: a stream counts its entries 1, 2, 3 (events/lua/prelude.lua)."""


def place_of(entry: str) -> tuple[int, int]:
    """Return the moment, in ms, and the number of an entry's id; a bare moment has the number 0."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def before(entry: str) -> str:
    """Return the id from which a reader goes on to `entry`: it comes next, and nothing is missing."""
    ms, number = place_of(entry)
    return f"{ms}-{max(0, number - 1)}"


def missing(after: str, entry: str) -> int | None:
    """Return how many entries that came after the entry `after` are gone, where `entry` is what comes next.

    None: some are gone, and nobody knows how many, because the stream was begun anew. Where one of the two
    has no number, none is known to be gone.
    """
    number, following = place_of(after)[1], place_of(entry)[1]
    if not number or not following:
        return 0
    return following - number - 1 if following > number else None


def missing_since(moment: str, first: str) -> int | None:
    """Return how many entries that came after `moment` are gone, where the stream begins with `first` now.

    `moment` is no entry: 0 for the beginning, or any other. None: perhaps some, nobody knows how many.
    """
    gone = max(0, place_of(first)[1] - 1)
    if not gone or place_of(moment) >= place_of(first):
        return 0
    return gone if place_of(moment)[0] == 0 else None
