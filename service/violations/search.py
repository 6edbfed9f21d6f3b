"""Finds one violation by its id or the start of it, reading only entries that can match."""

import re

from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.storage.stream_filter import filter_stream
from canhazgpu.service.violations.notification_status import FACTS, MARGIN_MS

DIGITS = 13  # Of the milliseconds in an id, until the year 2286.
LATER_MS = 3_600_000  # A clock that was set back lets entries come later than their ids say.
SHOWN = 5
_ID = re.compile(r"v(\d{1,13})(-\d{0,19})?", re.ASCII)


def no_such_violation(text: str) -> Problem:
    """Return the problem that a violation does not exist."""
    shown = printable(text, 40)
    return Problem(
        404, "no-such-violation", f"there is no violation {shown}", "`canhazgpu violations` lists them"
    )


async def find(store: Store, text: str) -> tuple[str, str]:
    """Return the id that is `text` or, alone, begins with it, and the stream entry of its first fact.

    Raises Problem when there is none or more than one, and StoreDown.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise no_such_violation(text)
    found: dict[str, str] = {}
    begin, end = (int(match[1].ljust(DIGITS, filler)) for filler in "09")
    span = begin - MARGIN_MS, end + LATER_MS
    async for page, _ in filter_stream(store, store.keys.violations, span, kind=FACTS, words=[text]):
        for row in page:
            if row.subject.startswith(f"violation/{text}"):
                found.setdefault(row.subject.partition("/")[2], row.entry)
        if text in found or (len(found) > SHOWN and not match[2]):
            break
    if text in found:
        return text, found[text]
    if not found:
        raise no_such_violation(text)
    if len(found) > 1:
        names = ", ".join(list(found)[:SHOWN]) + (", …" if len(found) > SHOWN else "")
        raise Problem(
            400,
            "ambiguous-id",
            f"{text} matches more than one violation: {names}",
            "give more characters of the id",
        )
    return found.popitem()
