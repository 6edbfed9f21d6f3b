"""Replays the streams and the scans of a host by the second, and counts. It shares no code with reports."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from month.hours_host import GAP, HoursHost, Seen

from canhazgpu.events.envelope import decode
from canhazgpu.events.timestamps import ms_of

LOW, LONG = 5, 300
NOT_SEEN: tuple[str, bool, frozenset[int]] = ("unknown", False, frozenset())
Sum = Counter[tuple[str, str]]


class Replay:
    """For each card, by second: who had reserved it, and what the last scan before had seen."""

    def __init__(self, host: HoursHost) -> None:
        self.host, self.length = host, host.second + 1
        self.holder = {card: array("i", [-1]) * self.length for card in host.listed}
        self.level = {card: array("i", [0]) * self.length for card in host.listed}
        self.levels = {NOT_SEEN: 0}  # What was seen, as a number.
        self.waits: list[tuple[int, int, int]] = []
        for card in host.listed:
            self._see(card, [one for one in host.seen if one.card == card])

    def _see(self, card: str, seen: Sequence[Seen]) -> None:
        low_since = None
        for position, one in enumerate(seen):
            if position and one.at - seen[position - 1].at > GAP:
                low_since = None
            exact = one.state == "ok"
            in_use = exact and bool(one.users)
            low = in_use and one.utilization < LOW
            low_since = (one.at if low_since is None else low_since) if low else None
            level = "unknown"
            if in_use:
                level = "idle" if low and one.at - (low_since or 0) >= LONG else "busy"
            elif exact:
                level = "out" if one.withdrawn else "free"
            end = self.length if position + 1 == len(seen) else seen[position + 1].at
            if end - one.at > GAP:
                continue
            said = level, one.holder >= 0, one.users if in_use else frozenset()
            number = self.levels.setdefault(said, len(self.levels))
            self.level[card][one.at : end] = array("i", [number]) * (end - one.at)

    async def read(self) -> None:
        """Replay reservations and the queue from the streams, and what lives on from the state."""
        keys, redis, now = self.host.store.keys, self.host.store.redis, self.length - 1
        ledger: Any = await redis.xrange(keys.ledger)
        for _, fields in ledger:
            data = decode(fields).data
            for card in data["uuids"]:
                self._hold(card, self._second(data["started"]), self._second(data["released"]), data["uid"])
        events: Any = await redis.xrange(keys.events)
        queued: dict[str, tuple[int, int]] = {}
        uuids: dict[int, str] = {
            one.usage.index: one.usage.uuid for one in (await self.host.states()).values()
        }
        for record in (await self.host.records()).values():
            for index in record.gpus:
                self._hold(uuids[index], (record.started_ms - self.host.begin) // 1000, now, record.uid)
        for _, fields in events:
            event = decode(fields)
            kind, name = event.type.removeprefix("canhazgpu."), event.subject.partition("/")[2]
            if kind == "request.queued":
                queued[name] = self._second(event.time), event.data["uid"]
            elif kind in ("request.left", "reservation.created") and name in queued:
                began, uid = queued.pop(name)
                self.waits.append((began, self._second(event.time), uid))
        self.waits += [(began, now, uid) for began, uid in queued.values()]

    def _second(self, moment: str) -> int:
        return (ms_of(moment) - self.host.begin) // 1000

    def _hold(self, card: str, begin: int, end: int, uid: int) -> None:
        assert set(self.holder[card][begin:end]) <= {-1}, "two hold one card"
        self.holder[card][begin:end] = array("i", [uid]) * (end - begin)

    def count(self, begin: int, end: int) -> dict[str, Sum]:
        """Return the seconds of each card in a period, by user and category."""
        found: dict[str, Sum] = {}
        levels = list(self.levels)
        for card, holders in self.holder.items():
            sums: Sum = Counter()
            moments = Counter(zip(holders[begin:end], self.level[card][begin:end], strict=True))
            for (holder, number), seconds in moments.items():
                for user, category, part in _said(holder, *levels[number]):
                    sums[user, category] += seconds / part  # type: ignore[assignment]
            found[card] = sums
        return found

    def waiting(self, begin: int, end: int) -> Counter[int]:
        """Return the seconds in the queue, by uid."""
        found: Counter[int] = Counter()
        for start, stop, uid in self.waits:
            found[uid] += max(0, min(stop, end) - max(start, begin))
        return found


def _said(holder: int, level: str, was_held: bool, users: frozenset[int]) -> list[tuple[str, str, int]]:  # noqa: FBT001
    """Return what a second was: users, categories, and among how many it is divided."""
    if holder >= 0:
        what = {"unknown": "unseen", "busy": "active", "idle": "idle"}.get(level, "unused")
        if level in ("busy", "idle") and holder not in users:
            what = "unused"
        others = [str(one) for one in users if one != holder]
        return [(str(holder), what, 1), *((other, "trespass", len(others)) for other in others)]
    if level in ("busy", "idle"):
        if was_held:  # It was released, and no scan has looked since.
            return [("", "unknown", 1)]
        return [(str(one), "unreserved", len(users)) for one in users]
    return [("", {"out": "out_of_service"}.get(level, level), 1)]
