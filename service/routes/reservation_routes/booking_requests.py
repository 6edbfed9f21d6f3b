"""Reads what a caller wants to book, within what the settings and the user's limits allow."""

from datetime import datetime
from itertools import pairwise

import msgspec

from canhazgpu.config.settings import Settings
from canhazgpu.events.durations import spell_length
from canhazgpu.events.reservations import Window
from canhazgpu.service.api.allowance import Allowances
from canhazgpu.service.api.booking_bodies import BookRequest, MaintenanceRequest
from canhazgpu.service.api.errors import Problem
from canhazgpu.service.api.gpu_names import indices, uuids
from canhazgpu.service.api.requests import duration_of, label_of
from canhazgpu.service.api.vendor_choice import all_gpus, vendor_of
from canhazgpu.service.bookings.bookings import BookingRequest
from canhazgpu.service.gpus.scanner import Scanner
from canhazgpu.service.identity.peer import Peer
from canhazgpu.service.identity.user_names import Users
from canhazgpu.service.routes.last_known import LastKnown
from canhazgpu.service.storage.snapshot import Snapshot

SHORTEST = 60.0  # Seconds; times of bookings are shown in minutes.
MAINTENANCE = "maintenance"  # The reason, if none is given.
LATE = 60.0  # Seconds for which a request may have been on its way: it begins now.


class BookingRequests:
    """What callers want, as the allocator is asked for it."""

    def __init__(
        self,
        settings: Settings,
        scanner: Scanner,
        users: Users,
        last_known: LastKnown,
        allowances: Allowances,
    ) -> None:
        """Use what these know."""
        self._settings, self._scanner, self._allowances = settings, scanner, allowances
        self._users, self._last_known = users, last_known

    @property
    def latest(self) -> float:
        """How many seconds from now a booking can begin at the latest."""
        return self._settings.bookings.max_ahead

    async def read(
        self, peer: Peer, params: BookRequest, repeats: list[str], seen: Snapshot
    ) -> BookingRequest:
        """Return what the allocator is asked for; `repeats` are further begins. Raises Problem."""
        may, known = self._allowances.of(peer.name), self._scanner.known
        if params.gpus == "all":
            every = all_gpus(params.vendor, await self._last_known.managed(), known)
            params = msgspec.structs.replace(params, gpus=every)
        named = None if params.gpus == "all" else params.gpus
        gpus = indices(named, known)
        if gpus is not None and params.count not in (None, len(gpus)):
            raise Problem(400, "bad-request", f"`count` is {params.count}, but {len(gpus)} GPUs are named")
        need = len(gpus) if gpus else params.count or 1
        if may.most is not None and need > may.most:  # What they hold elsewhere now is not held then.
            raise Problem(409, "limit", f"you can hold {may.most} GPU(s) at a time, not {need}")
        lasts = duration_of(params.duration, self._settings.reserve.duration, may.longest, "duration") or 0
        longest = self._settings.bookings.max_duration
        if longest and lasts > longest:
            detail = f"a booking can be {spell_length(longest)} long, not {spell_length(lasts)}"
            raise Problem(403, "too-long", detail, "book less, or several bookings")
        if lasts < SHORTEST:
            raise Problem(400, "bad-request", "duration: a booking is at least a minute long")
        begin_ms, *more = [self._begin(text, seen.now_ms) for text in (params.begin, *repeats)]
        if any(later <= one for one, later in pairwise((begin_ms, *more))):
            raise Problem(400, "bad-request", "repeats: each begin must be later than the one before")
        admin = peer.uid == 0 and peer.is_admin(None)
        return BookingRequest(
            user=peer.name,
            uid=peer.uid,
            login_uid=peer.login_uid,
            begin_ms=begin_ms,
            end_ms=begin_ms + round(lasts * 1000),
            more=tuple(more),
            zone=params.zone,
            count=None if gpus else need,
            vendor=vendor_of(params.vendor, gpus, known, self._settings.allocation.vendor),
            gpus=gpus,
            label=await label_of(params.label, peer, self._users, admin=admin),
            note=params.note,
            uuids=uuids(named, known) if gpus else None,
            limit=may.most,
            most_hours=self._settings.bookings.max_gpu_hours or None,
            most_bookings=self._settings.bookings.max_per_user or None,
        )

    async def maintenance(self, peer: Peer, params: MaintenanceRequest, seen: Snapshot) -> BookingRequest:
        """Return what the allocator is asked for, whatever is booked and reserved. Raises Problem."""
        known = self._scanner.known
        named = await self._last_known.managed() if params.gpus == "all" else params.gpus
        gpus = indices(named, known)
        lasts = duration_of(params.duration, 0, None, "duration") or 0
        if lasts < SHORTEST:
            raise Problem(400, "bad-request", "duration: maintenance is at least a minute long")
        begin_ms = _moment(params.begin, seen.now_ms)
        reason = params.reason or MAINTENANCE
        return BookingRequest(
            user=peer.name,
            uid=peer.uid,
            login_uid=peer.login_uid,
            begin_ms=begin_ms,
            end_ms=begin_ms + round(lasts * 1000),
            zone=params.zone,
            gpus=gpus,
            note=reason if reason == MAINTENANCE else f"{MAINTENANCE}: {reason}",
            uuids=None if params.gpus == "all" else uuids(params.gpus, known),
            drain=reason,
        )

    def _begin(self, text: str, now_ms: int) -> int:
        begin_ms = _moment(text, now_ms)
        longest = self._settings.bookings.max_ahead
        if not longest:
            raise Problem(
                403, "no-bookings", "bookings are disabled on this host", "leave out --begin, or add --wait"
            )
        if begin_ms > now_ms + longest * 1000:
            detail = f"bookings can begin at most {spell_length(longest)} from now"
            raise Problem(403, "too-far-ahead", detail, "book it later, or ask an administrator")
        return begin_ms


def _moment(text: str, now_ms: int) -> int:
    try:
        found = datetime.fromisoformat(text)
        begin_ms = round(found.timestamp() * 1000) if found.tzinfo else None
    except (ValueError, OverflowError) as error:
        raise Problem(400, "bad-request", f"begin: {error}") from error
    if begin_ms is None:
        raise Problem(400, "bad-request", "begin: the time zone is missing, as in 2026-12-01T09:00Z")
    if begin_ms < now_ms - LATE * 1000:
        raise Problem(400, "bad-request", "begin: this time has passed")
    return max(begin_ms, now_ms)


def windows_of(wanted: BookingRequest, seen: Snapshot) -> list[Window]:
    """Return the windows that a request is for, the first one first."""
    cards = {gpu.usage.index: gpu.usage.uuid or f"#{gpu.usage.index}" for gpu in seen.gpus}
    lasts_ms = wanted.end_ms - wanted.begin_ms
    return [
        Window(
            id="",
            uid=wanted.uid,
            begin_ms=begin_ms,
            end_ms=begin_ms + lasts_ms,
            count=len(wanted.gpus) if wanted.gpus else wanted.count or 1,
            vendor=wanted.vendor,
            cards=tuple(cards.get(index, f"#{index}") for index in wanted.gpus) if wanted.gpus else None,
        )
        for begin_ms in (wanted.begin_ms, *wanted.more)
    ]
