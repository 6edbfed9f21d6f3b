"""What a booking would mean for others, and what could be booked instead, as far as can be foreseen.

Requests that wait came first: a booking is not made if it would make one of them wait longer than without it.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from canhazgpu.events.reservations import Waiting, Window
from canhazgpu.service.status.promised_windows import Card, Promises, cards_of, is_possible
from canhazgpu.service.status.queue_eta import queue_eta
from canhazgpu.service.storage.snapshot import Snapshot

NO_END = 10**14 - 1  # Of a request that takes its GPUs without an end, in ms.
LOOKS = 300  # Windows to try,
PATIENCE = 0.3  # for so many seconds.
MINUTE_MS = 60_000


def delayed_by(
    seen: Snapshot, windows: Sequence[Window], before: Mapping[str, int] | None = None
) -> list[Waiting]:
    """Return the requests that would wait longer if these windows were promised.

    If it cannot be foreseen when a request gets its GPUs, it must be able to get them at any time. One that
    waits for an administrator keeps nothing from others, as in the queue. `before` is the forecast of the
    queue without the windows, if it is known.
    """
    if not seen.waiting:
        return []
    before, after = before or queue_eta(seen), queue_eta(with_windows(seen, windows))
    later = [one for one in seen.waiting if one.id in before and after.get(one.id, math.inf) > before[one.id]]
    cards = cards_of(seen)
    unforeseen = [one for one in seen.waiting if one.id not in before and _is_in_reach(one, cards)]
    of_instances = [one for one in unforeseen if one.profile is not None]
    of_gpus = [one for one in unforeseen if one.profile is None]
    kept = [*seen.windows, *(_taken(one, seen.now_ms, cards) for one in of_gpus)]
    if not _fit(windows, kept, cards, seen.now_ms):
        later = later or of_gpus
    return later or [
        one for one in of_instances if any(_left(one, cards, window) < one.need for window in windows)
    ]


def could_begin(seen: Snapshot, windows: Sequence[Window]) -> bool:
    """Return whether windows could be promised if nobody waited."""
    return _fit(windows, seen.windows, cards_of(seen), seen.now_ms)


def _fit(windows: Sequence[Window], kept: Sequence[Window], cards: Sequence[Card], now_ms: int) -> bool:
    promised = list(kept)
    for window in windows:
        if not Promises(promised, cards, now_ms).fits(window):
            return False
        promised.append(window)
    return True


def next_windows(seen: Snapshot, window: Window, most: int, latest_ms: int) -> list[int]:
    """Return the first moments, at most so many, at which a window of the same length could begin instead.

    They are whole minutes. With many bookings, later ones are not looked for.
    """
    return [begin for _, begin in zip(range(most), _possible(seen, window, latest_ms), strict=False)]


def _possible(seen: Snapshot, window: Window, latest_ms: int) -> Iterator[int]:
    cards, lasts_ms = cards_of(seen), window.end_ms - window.begin_ms
    first = max(window.begin_ms, seen.now_ms)
    ends = {int(card.free_ms) for card in cards if not card.out and not math.isinf(card.free_ms)}
    ends |= {one.end_ms for one in seen.windows}
    minutes = {-(-moment // MINUTE_MS) * MINUTE_MS for moment in (first, *ends)}
    promises, before = Promises(seen.windows, cards, seen.now_ms), queue_eta(seen)
    give_up = time.monotonic() + PATIENCE
    for begin in sorted(one for one in minutes if first <= one <= latest_ms)[:LOOKS]:
        tried = msgspec.structs.replace(window, begin_ms=begin, end_ms=begin + lasts_ms)
        if promises.fits(tried) and not delayed_by(seen, [tried], before):
            yield begin
        if time.monotonic() >= give_up:
            return


def with_windows(seen: Snapshot, more: Sequence[Window]) -> Snapshot:
    """Return the host as it would be with these windows promised."""
    windows = sorted([*seen.windows, *more], key=lambda one: (one.begin_ms, one.id))
    return msgspec.structs.replace(seen, windows=tuple(windows))


def _is_in_reach(request: Waiting, cards: Sequence[Card]) -> bool:
    """Return whether a request can be served without an administrator."""
    if request.profile is not None:
        return sum(card.profile == request.profile and not card.out for card in cards) >= request.need
    return is_possible(_taken(request, 0, cards), cards)


def _left(request: Waiting, cards: Sequence[Card], window: Window) -> int:
    """Return how many MIG instances of the profile that is asked for a window does not name."""
    named = set(window.cards or ())
    fit = [card for card in cards if card.profile == request.profile and not card.out]
    return sum(named.isdisjoint((card.uuid, *card.together)) for card in fit)


def _taken(request: Waiting, now_ms: int, cards: Sequence[Card]) -> Window:
    """Return the window of a request that could begin at any time and end never."""
    named = [card.uuid for card in cards if request.gpus and card.index in request.gpus]
    return Window(
        id=request.id,
        uid=request.uid,
        begin_ms=now_ms + 1,
        end_ms=NO_END,
        count=request.need,
        vendor=request.vendor,
        cards=tuple(named) or None,
    )
