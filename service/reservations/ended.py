"""The reservations that have ended, read from the ledger."""

from collections import deque

import msgspec

from canhazgpu.events.redis_client.store import Store
from canhazgpu.events.reservations import Reservation
from canhazgpu.events.spelling.gpu_numbers import is_part_of
from canhazgpu.service.storage.stream_filter import filter_stream

RELEASED = "canhazgpu.reservation.released"
MOST_ROWS = 10_000


class EndedFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the reservations that ended in a period and match all other filters that are set.

    `user` and `uid` are the same user: a name may have been different at another time.
    """

    since_ms: int
    until_ms: int | None = None
    user: str | None = None
    uid: int | None = None
    gpu: int | None = None

    def fits(self, ended: Reservation) -> bool:
        """Return whether a reservation matches, without considering when it ended."""
        anybody = self.user is None and self.uid is None
        theirs = anybody or ended.user == self.user or (self.uid is not None and ended.uid == self.uid)
        return theirs and (self.gpu is None or any(is_part_of(one, self.gpu) for one in ended.gpus))


class EndedReservationResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that has ended, or the release of some of its GPUs: then it still had those in `kept`.

    `reason`: exited, released, expired, idle, no_show, lost, unmanaged, undelivered, vanished, admin, stale.
    `by`: who ended it, if a user did. `held_s`: how long it had `gpus`. `started` and `ended` are RFC 3339 in
    UTC. `booking`: the id of the booking that it was, null if it was not booked.
    """

    id: str
    kind: str
    user: str
    uid: int
    label: str | None
    note: str | None
    gpus: list[int]
    uuids: list[str] | None
    kept: list[int] | None
    started: str
    ended: str
    held_s: int | None
    reason: str | None
    by: str | None
    booking: str | None = None


async def ended_reservations(store: Store, wanted: EndedFilter, most: int) -> list[EndedReservationResponse]:
    """Return the newest `most` ends, oldest first. Raises StoreDown.

    A reservation whose GPUs were released one after the other has one row for each time.
    """
    rows: deque[EndedReservationResponse] = deque(maxlen=min(most, MOST_ROWS))
    span = wanted.since_ms, wanted.until_ms
    async for page, _ in filter_stream(store, store.keys.ledger, span, kind=RELEASED):
        for entry in page:
            one = entry.data_as(Reservation)
            if one and wanted.fits(one):
                rows.append(ended_row(one, entry.time))
    return list(rows)


def ended_row(one: Reservation, time: str) -> EndedReservationResponse:
    """Return the end of a reservation at `time`, RFC 3339, as an API response."""
    return EndedReservationResponse(
        id=one.id,
        kind=one.kind,
        user=one.user,
        uid=one.uid,
        label=one.label,
        note=one.note,
        gpus=list(one.gpus),
        uuids=None if one.uuids is None else list(one.uuids),
        kept=None if one.kept is None else list(one.kept),
        started=one.started,
        ended=one.released or time,
        held_s=one.held_s,
        reason=one.reason,
        by=one.by,
        booking=one.booking,
    )
