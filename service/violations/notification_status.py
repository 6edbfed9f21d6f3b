"""Determines whether users were notified of their violations, from the notices and delivery attempts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from canhazgpu.events.notices import OFFENDER, REACHED, Delivery, Notice, is_personal
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.redis_client.stream_ids import place_of
from canhazgpu.events.silences import Silence, readable_silences
from canhazgpu.events.timestamps import ms_of
from canhazgpu.events.violations import Violation
from canhazgpu.service.storage.stream_filter import Row, filter_stream

REACHED_THEM, UNREACHED, PENDING, SILENCED = "reached", "unreached", "pending", "silenced"
NOT_NOTIFYING_KINDS = frozenset({"resolved", "terminate", "test"})  # Kinds that do not notify of a violation.
MARGIN_MS = 60_000  # Maximum difference between the time of a stream entry and of its event.
LATE_MS = 7 * 86_400_000  # How long notices may still be delivered after the end: retries, dead letters.
FACTS = "canhazgpu.violation."


class NotificationStatus(msgspec.Struct, frozen=True):
    """Whether the user of a violation was notified, and when first.

    `told`: reached, unreached (no channel reached the user), pending (being delivered or scheduled),
    silenced, or None: no user is proven, there was no notice, or its attempts are no longer known.
    """

    told: str | None = None
    reached_at: str | None = None


class _Named(msgspec.Struct):
    violation: str


class NoticeSummary(msgspec.Struct):
    """The relevant fields of a notice; the others are not decoded."""

    notice: str
    kind: str
    violations: tuple[_Named, ...] = ()
    audience: str = OFFENDER
    channels: tuple[str, ...] = ()
    unreached: bool = False


class Attempt(msgspec.Struct):
    """The relevant fields of a delivery."""

    notice: str
    channel: str
    outcome: str
    time: str
    final: bool = True


class _NoticeProgress:
    """One notice to an offender, and the state of its channels."""

    def __init__(self, notice: NoticeSummary | Notice, created_ms: int) -> None:
        self.created_ms = created_ms
        self.channels = frozenset(filter(is_personal, notice.channels))
        self.by_all = not notice.channels
        self.reached_at: str | None = None
        self._final: dict[str, bool] = {}

    def take(self, attempt: Attempt | Delivery) -> None:
        if not is_personal(attempt.channel):
            return
        self._final[attempt.channel] = attempt.final
        if attempt.outcome in REACHED:
            self.reached_at = min(self.reached_at or attempt.time, attempt.time)

    @property
    def done(self) -> bool:
        """Whether all channels have finished."""
        ended = {name for name, final in self._final.items() if final}
        families = {name.partition(":")[0] for name in ended}
        return self._final.keys() <= ended and (
            bool(ended) if self.by_all else self.channels <= ended | families
        )


class NotificationTracker:
    """Collects the notices and deliveries of some violations, passed in order."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        """Store the violations."""
        self._violations = {one.violation: one for one in violations}
        self._notices: dict[str, _NoticeProgress] = {}
        self._by_violation: dict[str, list[_NoticeProgress]] = defaultdict(list)
        self._missed: set[str] = set()

    def notice(self, notice: NoticeSummary | Notice, created_ms: int) -> None:
        """Process a notice."""
        about = [one.violation for one in notice.violations if one.violation in self._violations]
        if notice.unreached:
            self._missed.update(about)
        if notice.audience != OFFENDER or notice.kind in NOT_NOTIFYING_KINDS or not about:
            return
        if notice.notice not in self._notices:  # A dead letter that is tried again is the same notice.
            progress = self._notices[notice.notice] = _NoticeProgress(notice, created_ms)
            for name in about:
                self._by_violation[name].append(progress)

    def attempt(self, attempt: Attempt | Delivery) -> None:
        """Process a delivery attempt."""
        if attempt.notice in self._notices:
            self._notices[attempt.notice].take(attempt)

    def statuses(self, silences: Iterable[Silence], known_ms: int) -> dict[str, NotificationStatus]:
        """Return the result for each violation. Attempts for notices before `known_ms` were removed."""
        live = list(silences)
        return {
            name: self._status(one, silenced=any(silence.covers(one) for silence in live), known_ms=known_ms)
            for name, one in self._violations.items()
        }

    def _status(self, one: Violation, *, silenced: bool, known_ms: int) -> NotificationStatus:
        notices = self._by_violation.get(one.violation, [])
        reached = [progress.reached_at for progress in notices if progress.reached_at]
        if reached:
            return NotificationStatus(REACHED_THEM, min(reached))
        if one.person is None:
            return NotificationStatus()
        if one.violation in self._missed:
            return NotificationStatus(UNREACHED)
        if silenced and one.closed is None:
            return NotificationStatus(SILENCED)
        if not notices or any(progress.created_ms < known_ms for progress in notices):
            return NotificationStatus()
        # While it is open, the dispatcher may still take another step.
        waits = one.closed is None or not all(progress.done for progress in notices)
        return NotificationStatus(PENDING if waits else UNREACHED)


async def notification_status(
    store: Store, violations: Mapping[str, Violation], now_ms: int
) -> dict[str, NotificationStatus]:
    """Return for each violation whether its user was notified. Raises StoreDown."""
    if not violations:
        return {}
    keys, tracker = store.keys, NotificationTracker(violations.values())
    begin_ms = min(ms_of(one.since) for one in violations.values()) - MARGIN_MS
    end_ms = max(ms_of(one.closed) if one.closed else now_ms for one in violations.values()) + LATE_MS
    async for page, _ in filter_stream(store, keys.notices, (begin_ms, end_ms)):
        for row in page:
            if notice := row.data_as(NoticeSummary):
                tracker.notice(notice, row.ms)
    async for page, _ in filter_stream(store, keys.deliveries, (begin_ms, end_ms)):
        for row in page:
            if attempt := row.data_as(Attempt):
                tracker.attempt(attempt)
    lasting = any(one.closed is None for one in violations.values())
    live = [one for one in await live_silences(store) if one.until_ms > now_ms] if lasting else []
    return tracker.statuses(live, await kept_since_ms(store))


def violation_of(row: Row) -> Violation | None:
    """Return the violation in an event of the violations stream, or None if it is not valid."""
    found = row.data_as(Violation) if row.kind.startswith(FACTS) else None
    try:
        return (
            found if found and ms_of(found.since) >= 0 and ms_of(found.closed or found.since) >= 0 else None
        )
    except ValueError:
        return None


async def live_silences(store: Store) -> list[Silence]:
    """Return the live silences. Raises StoreDown."""
    rows: Any = await store.ask(store.redis.hvals(store.keys.silences))
    return readable_silences(rows)


async def kept_since_ms(store: Store) -> int:
    """Return the time since when all attempts are kept; 0 means that none were removed."""
    first: Any = await store.ask(store.redis.xrange(store.keys.deliveries, count=1))
    ms, number = place_of(first[0][0].decode()) if first else (0, 0)
    return ms if number > 1 else 0
