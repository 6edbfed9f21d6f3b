"""Adds up GPU-hours for a period, by user, GPU, day, hour or host."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

import anyio.to_thread
import msgspec

from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import card_of, place_of
from canhazgpu.events.timestamps import rfc3339
from canhazgpu.service.report.facts import PER_DAY, Base, Facts, Sums, decode_list, facts, read_base
from canhazgpu.service.report.responses import GpuHours, ReportResponse, ReportRow
from canhazgpu.service.report.timeline import (
    CATEGORIES,
    DAY_MS,
    HOUR_MS,
    TRESPASS,
    UNKNOWN,
    UNRESERVED,
    UNSEEN,
    Share,
    classify,
)

BY = ("user", "gpu", "day", "hour", "host")
WAITING = len(CATEGORIES)
LENGTHS = (*CATEGORIES, "waiting")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: a period in ms, what its rows are, and the time zone of days and of the week.

    `user`: only the hours of this user, whose uid is `uid` if that is known. `whole_hours`: a day begins
    with the hour in which it does.
    """

    host: str
    since_ms: int
    until_ms: int
    by: str = "user"
    zone: tzinfo | None = UTC
    stale_ms: int = 15_000
    name: Callable[[int], str | None] = lambda _: None
    user: str | None = None
    uid: int | None = None
    whole_hours: bool = False


async def report(store: Store, question: Question) -> ReportResponse:
    """Return the report. Raises StoreDown."""
    known = await read_base(store)
    end = min(question.until_ms, known.now_ms)
    question = msgspec.structs.replace(question, since_ms=min(question.since_ms, end), until_ms=end)
    work = _Work(question, known)
    found = await facts(store, known, question.stale_ms, log=work.log, sums=work.sums, waits=work.waits)
    return await anyio.to_thread.run_sync(work.answer, found)


def answer(question: Question, known: Base, found: Facts) -> ReportResponse:
    """Return the report of what was read elsewhere: hours with sums, and nothing else."""
    return _Work(question, known).answer(found)


class _Work:
    """Plans which hours are read as sums and which moment by moment, and adds up."""

    def __init__(self, question: Question, known: Base) -> None:
        self._asked, self._known = question, known
        begin, end = question.since_ms, question.until_ms
        days = list(_midnights(begin, end, question.zone)) if question.by == "day" else []
        self._days = [one - one % HOUR_MS for one in days] if question.whole_hours else days
        self._starts = [begin, *self._days]
        inside = {one // HOUR_MS for one in self._days if one % HOUR_MS}
        hours = range(-(-begin // HOUR_MS), min(end // HOUR_MS, known.summed or 0))
        self._whole = {hour for hour in hours if hour not in inside}
        self._raw = list(_spans(begin, end, self._whole))
        self.log = sorted({day for start, stop in self._raw for day in _days(start, stop)})
        self.sums = sorted({hour // PER_DAY for hour in self._whole})
        self.waits = list(range(begin // DAY_MS, known.now_ms // DAY_MS + 2))
        self._totals: dict[Any, list[int]] = defaultdict(lambda: [0] * len(LENGTHS))
        self._sum = [0] * len(LENGTHS)
        self._used: dict[int, list[int]] = defaultdict(lambda: [0, 0])  # By hour: used, and known at all.
        self._theirs: frozenset[str] | None = None  # The keys of the only user who is asked about.

    def answer(self, found: Facts) -> ReportResponse:
        """Return the report from what was read."""
        self._theirs = _keys(self._asked, found.names)
        for text in found.sums:
            for part in decode_list(text, Sums):
                self._add_sums(part)
        for card in {**found.entries, **found.holds}:
            for one in self._moments(card, found):
                self._add(one.ms, card, one.user, one.category, one.length)
        self._add_waits(found.waits)
        return self._response(found)

    def _add_sums(self, part: Sums) -> None:
        """Add the rows of whole hours, each of them like `_add`. There may be a quarter of a million."""
        names = part.users if self._asked.by == "user" else part.cards if self._asked.by == "gpu" else []
        whole, total, totals, used = self._whole, self._sum, self._totals, self._used
        of_users, theirs = self._asked.by == "user", self._theirs
        wanted = {at for at, user in enumerate(part.users) if theirs is None or user in theirs}
        for hour, card, user, category, length in part.rows:
            if hour not in whole:
                continue
            if user in wanted:
                total[category] += length
                key = names[user if of_users else card] if names else self._key(hour * HOUR_MS, "", "")
                if key or not of_users:
                    totals[key][category] += length
            if category < UNKNOWN:
                cell = used[hour]
                cell[1] += length
                if category <= UNRESERVED and user in wanted:
                    cell[0] += length

    def _moments(self, card: str, found: Facts) -> Iterator[Share]:
        first_ms, _ = self._known.cards.get(card, (None, 0))
        for start, stop in self._raw:
            hours = range(start // HOUR_MS + 1, -(-stop // HOUR_MS))
            cuts = {start, stop, *(hour * HOUR_MS for hour in hours)}
            marks = sorted(cuts | {one for one in self._days if start < one < stop})
            for one in classify(found.entries.get(card, ()), found.holds.get(card, ()), marks, first_ms):
                if one.category != UNKNOWN or card in found.present:
                    yield one

    def _add(self, start: int, card: str, user: str, category: int, length: int) -> None:
        wanted = self._theirs is None or user in self._theirs
        key = self._key(start, card, user)
        if wanted:
            self._sum[category] += length
            if key != "" or self._asked.by != "user":
                self._totals[key][category] += length
        if category not in (UNKNOWN, TRESPASS):
            hour = self._used[start // HOUR_MS]
            hour[0] += length if wanted and category <= UNRESERVED else 0
            hour[1] += length

    def _key(self, start: int, card: str, user: str) -> str | int:
        by = self._asked.by
        if by == "user":
            return user
        if by == "gpu":
            return card
        if by == "hour":
            return start // HOUR_MS * HOUR_MS
        return self._starts[bisect_right(self._starts, start) - 1] if by == "day" else self._asked.host

    def _add_waits(self, waits: Sequence[tuple[int, int, int]]) -> None:
        begin, end, by = self._asked.since_ms, self._asked.until_ms, self._asked.by
        for began, ended, uid in waits:
            if self._theirs is not None and f"uid:{uid}" not in self._theirs:
                continue
            start, stop = max(began, begin), min(ended, end)
            self._sum[WAITING] += max(0, stop - start)
            while start < stop and by != "gpu":
                cut = stop
                if by == "hour":
                    cut = min(stop, (start // HOUR_MS + 1) * HOUR_MS)
                elif by == "day":
                    cut = min([stop, *(one for one in self._days if one > start)])
                self._totals[self._key(start, "", f"uid:{uid}")][WAITING] += cut - start
                start = cut

    def _response(self, found: Facts) -> ReportResponse:
        asked = self._asked
        if asked.by == "day":
            keys: Sequence[Any] = self._starts if asked.since_ms < asked.until_ms else []
        elif asked.by == "hour":
            keys = range(asked.since_ms // HOUR_MS * HOUR_MS, asked.until_ms, HOUR_MS)
        elif asked.by == "host":
            keys = [asked.host]
        else:
            keys = list(self._totals)
        rows = [self._row(key, found) for key in keys]
        if asked.by == "user":
            rows.sort(key=lambda row: (-row.reserved_s - row.unreserved_s, row.key))
        elif asked.by == "gpu":
            rows.sort(key=lambda row: (row.gpu_id is None, place_of(row.gpu_id or 0), row.key))
        return ReportResponse(
            host=asked.host,
            since=rfc3339(asked.since_ms),
            until=rfc3339(asked.until_ms),
            by=asked.by,
            user=asked.user,
            zone=str(asked.zone or "local"),
            gpus=len(set(found.present.values()) - set(map(card_of, found.present.values()))),
            total=GpuHours(**_seconds(self._sum)),
            rows=rows,
            week=self._week(),
        )

    def _row(self, key: Any, found: Facts) -> ReportRow:
        facts_of_row: dict[str, Any] = {**self._labels(key, found), **_seconds(self._totals[key])}
        return ReportRow(**facts_of_row)

    def _labels(self, key: Any, found: Facts) -> dict[str, Any]:
        by = self._asked.by
        if by in ("day", "hour"):
            return {"key": rfc3339(max(key, self._asked.since_ms))}
        if by == "gpu":
            return {"key": printable(key), "gpu_id": found.present.get(key)}
        kind, _, rest = key.partition(":")
        if by == "user" and kind == "uid":
            uid = int(rest)
            return {"key": printable(self._asked.name(uid) or found.names.get(uid) or rest), "uid": uid}
        return {"key": printable(rest if kind == "user" and by == "user" else key)}

    def _week(self) -> list[list[float | None]]:
        used = [[[0, 0] for _ in range(PER_DAY)] for _ in range(7)]
        for hour, (some, known) in self._used.items():
            local = datetime.fromtimestamp(hour * HOUR_MS // 1000, UTC).astimezone(self._asked.zone)
            cell = used[local.weekday()][local.hour]
            cell[0], cell[1] = cell[0] + some, cell[1] + known
        return [[round(some / known, 3) if known else None for some, known in day] for day in used]


def _keys(asked: Question, names: Mapping[int, str]) -> frozenset[str] | None:
    """Return what the log calls the user who is asked about; None if everybody is."""
    if asked.user is None:
        return None
    uids = [uid for uid, name in names.items() if name == asked.user] if asked.uid is None else [asked.uid]
    return frozenset({f"user:{asked.user}", *(f"uid:{uid}" for uid in uids)})


def _seconds(lengths: Sequence[int]) -> dict[str, float]:
    found = {f"{name}_s": lengths[place] / 1000 for place, name in enumerate(LENGTHS)}
    return {"reserved_s": sum(lengths[: UNSEEN + 1]) / 1000, **found}


def _midnights(begin: int, end: int, zone: tzinfo | None) -> Iterator[int]:
    """Yield the midnights of a time zone in a period."""
    day = datetime.fromtimestamp(begin / 1000, UTC).astimezone(zone).date()
    while True:
        day += timedelta(days=1)
        midnight = datetime.combine(day, time())
        at = midnight.replace(tzinfo=zone) if zone else midnight.astimezone()
        moment = round(at.timestamp() * 1000)
        if moment >= end:
            return
        if moment > begin:
            yield moment


def _spans(begin: int, end: int, whole: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a period that are not whole hours with sums, each as long as can be."""
    start = begin
    for hour in sorted(whole):
        if start < hour * HOUR_MS:
            yield start, hour * HOUR_MS
        start = (hour + 1) * HOUR_MS
    if start < end:
        yield start, end


def _days(start: int, stop: int) -> range:
    return range(start // DAY_MS, (stop - 1) // DAY_MS + 1)
