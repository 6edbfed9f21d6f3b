"""The history of violations, built from the events of the violations stream: one row per violation."""

from collections.abc import Container
from typing import Any

import msgspec

from canhazgpu.events.open_violations import open_violations
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.violations import Violation
from canhazgpu.service.api.responses import ViolationResponse
from canhazgpu.service.storage.stream_filter import filter_stream
from canhazgpu.service.violations.filters import Filters
from canhazgpu.service.violations.notification_status import (
    FACTS,
    MARGIN_MS,
    UNREACHED,
    NotificationStatus,
    notification_status,
    violation_of,
)

MOST_ROWS = 10_000


async def violations(store: Store, filters: Filters, now_ms: int) -> list[ViolationResponse]:
    """Return the requested violations, oldest first, at most the newest MOST_ROWS. Raises StoreDown.

    The last event of each counts. `state` is open or closed; `told` and `reached_at` are as in
    `NotificationStatus`.
    """
    opened = await open_by_id(store)
    rows = {} if filters.open else await _past(store, filters, opened)
    for name, one in opened.items():
        if filters.fits(one) and not (name in rows and rows[name].closed):
            rows[name] = one
    rows = newest(rows, MOST_ROWS)
    statuses = await notification_status(store, rows, now_ms)
    return [
        row(one, statuses[name])
        for name, one in rows.items()
        if not filters.unreached or statuses[name].told == UNREACHED
    ]


def row(violation: Violation, status: NotificationStatus) -> ViolationResponse:
    """Return a violation as an API response."""
    return ViolationResponse(
        **msgspec.structs.asdict(violation),
        state="closed" if violation.closed else "open",
        told=status.told,
        reached_at=status.reached_at,
    )


async def open_by_id(store: Store) -> dict[str, Violation]:
    """Return the violations that are open, by id. Raises StoreDown."""
    fields: Any = await store.ask(store.redis.hgetall(store.keys.open))
    return {one.violation: one for one in open_violations(dict(fields))}


async def _past(store: Store, filters: Filters, opened: Container[str]) -> dict[str, Violation]:
    """Return the violations with events since `since_ms`; at most twice MOST_ROWS are in memory."""
    rows: dict[str, Violation] = {}
    span = filters.since_ms - MARGIN_MS, None
    ends: set[str] = set()  # Violations whose end was not read yet.
    async for page, read_ms in filter_stream(store, store.keys.violations, span, kind=FACTS):
        for fact in page:
            one = violation_of(fact)
            if one is None:
                continue
            if not filters.fits(one):  # Its kind may change; the last one counts.
                rows.pop(one.violation, None)
                ends.discard(one.violation)
                continue
            rows[one.violation] = one
            if one.closed or one.violation in opened:
                ends.discard(one.violation)
            else:
                ends.add(one.violation)
        if len(rows) > 2 * MOST_ROWS:
            rows = newest(rows, MOST_ROWS)
            ends &= rows.keys()
        if filters.until_ms is not None and not ends and (read_ms or 0) > filters.until_ms:
            break
    return rows


def newest(rows: dict[str, Violation], most: int) -> dict[str, Violation]:
    """Return the `most` newest rows by start time, oldest first."""
    kept = sorted(rows.values(), key=lambda one: (one.since, one.gpu))[-most:]
    return {one.violation: one for one in kept}
