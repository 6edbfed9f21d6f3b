"""Ids of stream entries, `MS-NUMBER`; a stream numbers its entries 1, 2, 3 (events/lua/prelude.lua)."""


def place_of(entry: str) -> tuple[int, int]:
    """Return the time in ms and the number of an entry's id; a time alone has the number 0."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def before(entry: str) -> str:
    """Return the id after which a reader gets `entry` next, with nothing missing."""
    ms, number = place_of(entry)
    return f"{ms}-{max(0, number - 1)}"


def count_missing(after: str, entry: str) -> int | None:
    """Return the number of entries that were removed between the entry `after` and the next one, `entry`.

    None: the number is unknown, because the stream was started again. If one of the two has no number,
    the result is 0.
    """
    number, following = place_of(after)[1], place_of(entry)[1]
    if not number or not following:
        return 0
    return following - number - 1 if following > number else None


def missing_since(moment: str, first: str) -> int | None:
    """Return the number of entries after `moment` that were removed, if the stream now starts with `first`.

    `moment` is a time, not an entry; 0 is the beginning. None: the number is unknown.
    """
    gone = max(0, place_of(first)[1] - 1)
    if not gone or place_of(moment) >= place_of(first):
        return 0
    return gone if place_of(moment)[0] == 0 else None
