"""Violations over time, made from the facts of the violations stream: one row a violation."""

from collections.abc import Iterator
from typing import Any

import msgspec

from canhazgpu.events.envelope import Undecodable, decode
from canhazgpu.events.openings import open_violations
from canhazgpu.events.store import UNREACHABLE, Store, StoreDown, unreachable
from canhazgpu.events.violations import Violation

PAGE = 500
MOST_ROWS = 10_000


async def violations(
    store: Store, since_ms: int, user: str | None, *, only_open: bool
) -> list[dict[str, Any]]:
    """Return the violations since `since_ms`, and every open one, oldest first, at most MOST_ROWS.

    The last fact of each counts; `state` is open or closed. Raises StoreDown.
    """
    try:
        rows = {one.violation: one for one in open_violations(await _open(store))}
        if not only_open:
            rows = {**await _past(store, since_ms), **rows}
    except UNREACHABLE as error:
        raise StoreDown(unreachable(error)) from error
    wanted = [one for one in rows.values() if user in (None, one.user)]
    wanted.sort(key=lambda one: (one.since, one.gpu))
    return [
        {**msgspec.to_builtins(one), "state": "closed" if one.closed else "open"}
        for one in wanted[-MOST_ROWS:]
    ]


async def _open(store: Store) -> dict[bytes, bytes]:
    fields: Any = await store.redis.hgetall(store.keys.open)
    return dict(fields)


async def _past(store: Store, since_ms: int) -> dict[str, Violation]:
    rows: dict[str, Violation] = {}
    start = str(since_ms)
    while True:
        page: Any = await store.redis.xrange(store.keys.violations, start, "+", count=PAGE)
        for one in _decoded(page):
            rows[one.violation] = one
        if len(page) < PAGE:
            return rows
        start = "(" + page[-1][0].decode()


def _decoded(page: Any) -> Iterator[Violation]:
    for _, fields in page:
        try:
            yield msgspec.convert(decode(fields).data, Violation)
        except (Undecodable, msgspec.ValidationError):  # The log's worker buries it; here it is no row.
            continue
