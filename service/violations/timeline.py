"""The timeline of one violation, collected from the streams and sorted by time.

Each stream is read once, page by page, from the start of the violation to some time after its end. Unrelated
entries are skipped without decoding. If there are too many entries, those in the middle are only counted.
"""

from collections import deque
from collections.abc import Iterator

from canhazgpu.events.notices import ATTEMPTED, CREATED, Delivery, Notice
from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.silences import ADDED, ENDED, Silence
from canhazgpu.events.timestamps import ms_of
from canhazgpu.events.violations import Signalled, Violation
from canhazgpu.service.api.redaction import Viewer
from canhazgpu.service.storage.stream_filter import Row, filter_stream
from canhazgpu.service.violations import event_descriptions
from canhazgpu.service.violations.notification_status import (
    LATE_MS,
    MARGIN_MS,
    NotificationStatus,
    NotificationTracker,
    kept_since_ms,
    live_silences,
    violation_of,
)
from canhazgpu.service.violations.responses import Moment, NoticeFacts

FIRST, LAST = 100, 400  # Number of entries of each kind that are kept at the start and at the end.
LONGEST_SILENCE_MS = 31 * 86_400_000
SIGNALLED, SILENCES = "canhazgpu.process.signalled", "canhazgpu.silence."
SORTS = ("violation", "process", "silence", "notice")  # The order within a millisecond.


class _Ends:
    """The first and last of many entries; those in the middle are counted."""

    def __init__(self) -> None:
        self.first: list[Moment] = []
        self.last: deque[Moment] = deque(maxlen=LAST)
        self.left_out = 0

    def add(self, one: Moment) -> None:
        if len(self.first) < FIRST:
            self.first.append(one)
        else:
            self.left_out += len(self.last) == LAST
            self.last.append(one)

    def __iter__(self) -> Iterator[Moment]:
        yield from self.first
        yield from self.last


class Timeline:
    """The timeline of one violation. `read` reads the streams; the properties have the result."""

    def __init__(self, store: Store, name: str, viewer: Viewer, now_ms: int) -> None:
        """Collect the timeline of the violation `name`, redacted for `viewer`."""
        self._store, self._keys = store, store.keys
        self._name, self._viewer, self._now_ms = name, viewer, now_ms
        self._moments = {sort: _Ends() for sort in SORTS}
        self._readers: dict[str, str | None] = {}  # Of each notice.
        self._episodes: dict[str, None] = {}
        self._now: Violation | None = None
        self.verdict = NotificationStatus()

    async def read(self, start: str, opened: Violation | None) -> None:
        """Read the streams; `start` is the entry of its first event, `opened` its state if it is open.

        Raises StoreDown, and LookupError if none of its events can be read.
        """
        await self._facts(start)
        if opened and not (self._now and self._now.closed):
            self._now = opened
        tracker = NotificationTracker([self.violation])
        await self._notices(tracker)
        await self._attempts(tracker)
        live = [one for one in await self._silences() if not one.ended and one.until_ms > self._now_ms]
        self.verdict = tracker.statuses(live, await kept_since_ms(self._store))[self._name]

    @property
    def violation(self) -> Violation:
        """The current state of the violation. Raises LookupError if there is none."""
        if self._now is None:
            raise LookupError(self._name)
        return self._now

    @property
    def moments(self) -> list[Moment]:
        """The entries, oldest first."""
        return sorted((one for sort in SORTS for one in self._moments[sort]), key=lambda one: one.time)

    @property
    def left_out(self) -> int:
        """The number of entries that are left out of `moments`."""
        return sum(kept.left_out for kept in self._moments.values())

    @property
    def _span(self) -> tuple[int, int]:
        """The period in which entries can be related to it, in ms."""
        one = self.violation
        ended_ms = ms_of(one.closed) if one.closed else self._now_ms
        return ms_of(one.since) - MARGIN_MS, ended_ms + LATE_MS

    def _add(self, moment: Moment) -> None:
        self._moments[moment.type.split(".")[1]].add(moment)

    async def _facts(self, start: str) -> None:
        subject = f"violation/{self._name}"
        async for page, read_ms in filter_stream(
            self._store, self._keys.violations, (start, None), words=[self._name]
        ):
            for row in page:
                if row.subject == subject:
                    self._fact(row)
            if self._now and self._now.closed and (read_ms or 0) > self._span[1]:
                return

    def _fact(self, row: Row) -> None:
        if fact := violation_of(row):
            sentence = event_descriptions.describe_fact(row.kind, fact, self._now)
            self._now = fact
            self._add(Moment(time=row.time, type=row.kind, sentence=sentence, fact=fact))
        elif row.kind == SIGNALLED and (signal := row.data_as(Signalled)):
            sentence = event_descriptions.describe_signal(signal)
            self._add(Moment(time=row.time, type=row.kind, sentence=sentence, signal=signal))

    async def _notices(self, tracker: NotificationTracker) -> None:
        async for page, _ in filter_stream(self._store, self._keys.notices, self._span, words=[self._name]):
            for row in page:
                notice = row.data_as(Notice)
                if notice and any(one.violation == self._name for one in notice.violations):
                    tracker.notice(notice, row.ms)
                    self._notice(notice)

    def _notice(self, notice: Notice) -> None:
        if notice.notice in self._readers:  # A dead letter that is tried again.
            return
        self._readers[notice.notice] = notice.person
        self._episodes[notice.episode] = None
        facts = NoticeFacts(
            notice=notice.notice,
            kind=notice.kind,
            audience=notice.audience,
            user=notice.user,
            person=notice.person,
            created=notice.created,
            serial=notice.serial,
            gpus=sorted({one.gpu for one in notice.violations}),
            channels=list(notice.channels),
            to=self._viewer.address(notice.to, notice.person) if notice.to else None,
            unreached=notice.unreached,
            unreached_holder=notice.unreached_holder,
            dry_run=notice.dry_run,
        )
        sentence = event_descriptions.describe_notice(facts)
        self._add(Moment(time=notice.created, type=CREATED, sentence=sentence, notice=facts))

    async def _attempts(self, tracker: NotificationTracker) -> None:
        if not self._readers:
            return
        words = list(self._episodes)
        async for page, _ in filter_stream(self._store, self._keys.deliveries, self._span, words=words):
            for row in page:
                attempt = row.data_as(Delivery)
                if attempt and attempt.notice in self._readers:
                    tracker.attempt(attempt)
                    seen = self._viewer.delivery(attempt, self._readers[attempt.notice])
                    sentence = event_descriptions.describe_attempt(seen)
                    self._add(Moment(time=seen.time, type=ATTEMPTED, sentence=sentence, attempt=seen))

    async def _silences(self) -> list[Silence]:
        """Add the silences that covered it; return their current state."""
        found: dict[str, Silence] = {}
        begin_ms, end_ms = self._span
        span = begin_ms - LONGEST_SILENCE_MS, end_ms
        async for page, _ in filter_stream(self._store, self._keys.events, span, kind=SILENCES):
            for row in page:
                one = row.data_as(Silence)
                if one and self._covered(one):
                    found[one.id] = one  # Its end says all that its beginning said.
        found |= {one.id: one for one in await live_silences(self._store) if self._covered(one)}
        ended = self.violation.closed
        silences = [
            one
            for one in found.values()
            if (ended is None or one.since <= ended) and (one.ended or one.until) >= self.violation.since
        ]
        for one in silences:
            for kind, time in ((ADDED, one.since), (ENDED, one.ended)):
                if time:
                    sentence = event_descriptions.describe_silence(kind, one)
                    self._add(Moment(time=time, type=kind, sentence=sentence, silence=one))
        return silences

    def _covered(self, one: Silence) -> bool:
        facts = (moment.fact for moment in self._moments["violation"])
        return any(one.covers(fact) for fact in (self.violation, *facts) if fact)
