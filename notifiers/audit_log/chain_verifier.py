"""Checks a chain line by line for edited, removed, moved and repeated lines. It reads no files.

A line follows another if its chain value was computed from it. A line that follows no known line is a stray
until a later line, or the end, shows what it is: a line after removed ones is followed by the next line, a
moved line by a line elsewhere, and a repeated line by nothing new.
"""

from bisect import bisect_right

import msgspec

from canhazgpu.notifiers.audit_log.findings import MOST, SHOWN, Findings, Kind, Place
from canhazgpu.notifiers.audit_log.hash_chain import (
    LONGEST,
    START,
    Head,
    Link,
    fields_of,
    is_plain,
    link_of,
    value,
)


class _Spot(msgspec.Struct, frozen=True):
    """A line of the chain: its number, its possible heads, and the number of unsealed lines before it."""

    seq: int
    heads: tuple[Head, ...]  # Two for an edited line: with its stored value, and with its original one.
    place: Place
    broken: int = 0
    text: bytes = b""
    certain: bool = True  # False for a first line without its predecessor.

    def leads_to(self, link: Link) -> bool:
        return any(head.leads_to(link) for head in self.heads)


class _Gap(msgspec.Struct):
    first: int
    last: int
    place: Place


class ChainVerifier:
    """A check in progress. Pass the files in the order of their chain: `open`, `take` each line, then `end`.

    Invariant: the lines so far form a complete chain up to `head`, except for the findings, gaps and strays.
    """

    def __init__(self, anchor: Head | None, fault: str = "", begin: Head | None = None) -> None:
        """Use the content of the head file, read before the log; `fault` says why there is none.

        `begin`: the last line before the log file itself, if known.
        """
        self.findings = Findings()
        self.names: list[str] = []
        self.lines = self.before = self.torn = 0
        self.first = 0
        self.anchor = anchor
        self.begins_unproven = False  # The value from which the first line was computed is not available.
        self._begin_head = begin
        self._live = False
        self._fault = fault
        self._anchored = False
        self._anchor_place: Place | None = None  # The line with the number in the head file.
        self._place = Place()
        self._at: _Spot | None = None
        self._gaps: list[_Gap] = []
        self._strays: dict[int, _Spot] = {}
        self._previous: _Spot | None = None  # The previous line, if it is a stray.
        self._broken = 0

    @property
    def head(self) -> Head | None:
        """The end of the chain, or None without lines."""
        return self._at.heads[0] if self._at else None

    def open(self, name: str, *, live: bool = False) -> None:
        """Continue with the next file; `live`: it is the log itself, which comes last."""
        self._live = live
        self.names.append(name)
        self._place = Place(self._place.number, name)
        self._previous = None

    def damaged(self, reason: str) -> None:
        """Record that this file cannot be read any further."""
        self.findings.add("unreadable", self._place, text=reason)

    def take(self, line: bytes) -> None:
        """Check the next line. A last line without a line feed does not count, because its writer died."""
        if not line.endswith(b"\n"):
            self.torn += 1
            return
        self.lines += 1
        self._place = Place(self.lines, self._place.file, self._place.line + 1)
        link = link_of(line) if len(line) <= LONGEST else None
        previous, self._previous = self._previous, None
        if link:
            self._take_link(link, previous, _begin_of(line))
        elif not (self._at or self._known_begin) and len(line) <= LONGEST and is_plain(line):
            self.before += 1
        else:
            self._broken += 1
            self.findings.add(_fault_of(line), self._place, text=_begin_of(line))

    def end(self) -> None:
        """Classify the remaining strays, and check the end against the head file."""
        self._settle()
        for gap in self._gaps:
            self.findings.add("removed", gap.place, (gap.first, gap.last))
        self._check_end()
        self.findings.sort(self.names)

    def _take_link(self, link: Link, previous: _Spot | None, text: bytes) -> None:
        spot = _Spot(link.seq, (link.head,), self._place, self._broken, text)
        self._compare(link.head)
        at = self._at or self._begin(spot)
        if not at:
            return
        if at.leads_to(link):
            self._follow(at, spot)
        elif stray := self._stray_before(link, previous):
            self._rejoin(at, stray, spot)
        elif link.seq == at.seq + 1:
            mended = Head(link.seq, value(at.heads[0].chain, link.body))
            self._compare(mended)
            self._find("edited", spot)
            self._at = msgspec.structs.replace(spot, heads=(link.head, mended))
        else:
            self._keep(spot)

    def _begin(self, spot: _Spot) -> _Spot | None:
        """Return the predecessor of the first line, or None if it is not available."""
        self.first = spot.seq
        begin = self._known_begin
        for known in (START, begin, self.anchor):
            if known and known.seq + 1 == spot.seq:
                return _Spot(known.seq, (known,), Place())
        self.begins_unproven = True
        if self.before:  # Then nothing was rotated away.
            self._record_missing(_Spot(0, (), Place()), spot.seq - 1, spot)
        elif begin and self.anchor and begin.seq < spot.seq <= self.anchor.seq:
            self._record_missing(_Spot(begin.seq, (), Place()), spot.seq - 1, spot)
        self._at = msgspec.structs.replace(spot, certain=False)
        return None

    @property
    def _known_begin(self) -> Head | None:
        """The line before the log file itself, if no line of another file was read."""
        return self._begin_head if self._live and not self._at else None

    def _follow(self, at: _Spot, spot: _Spot) -> None:
        if spot.seq != at.seq + 1:
            if at.certain:
                self._find("edited", spot)
                spot = msgspec.structs.replace(spot, seq=at.seq + 1)
            else:
                self._find("edited", at)
                self.first = spot.seq - 1
        self._at = spot

    def _stray_before(self, link: Link, previous: _Spot | None) -> _Spot | None:
        for stray in (self._strays.get(link.seq - 1), previous):
            if stray and stray.leads_to(link):
                return stray
        return None

    def _rejoin(self, at: _Spot, stray: _Spot, spot: _Spot) -> None:
        """Take a line that follows a stray, which reveals the true number of the stray."""
        ahead = spot.seq - 1 > at.seq
        edited = stray.seq != spot.seq - 1
        moved = at.place.number > stray.place.number
        if edited:
            self._find("edited", stray)
        elif ahead and moved:
            self._find("out_of_order", stray)
        if (edited or ahead) and self._strays.get(stray.seq) is stray:
            del self._strays[stray.seq]
        if ahead:
            self._record_missing(at, spot.seq - 2, spot if moved else stray)
        if ahead or spot.seq == at.seq + 1:
            self._at = spot
        else:
            self._keep(spot)

    def _keep(self, stray: _Spot) -> None:
        if len(self._strays) >= MOST:
            self._settle()
        self._previous = stray
        if stray.seq in self._strays:
            self._find("duplicated", stray)
        else:
            self._strays[stray.seq] = stray

    def _settle(self) -> None:
        strays, self._strays = self._strays, {}
        for stray in strays.values():
            if self._at:
                self._classify(self._at, stray)

    def _classify(self, at: _Spot, stray: _Spot) -> None:
        """Classify a stray that no line follows."""
        seq = stray.seq
        if self.anchor and self.anchor.chain == stray.heads[0].chain and self.anchor.seq != seq:
            seq = self.anchor.seq
            self._find("edited", stray)
        elif seq < self.first or self._fill(seq) or (seq > at.seq and at.place.number > stray.place.number):
            self._find("out_of_order", stray)
        elif seq <= at.seq:
            self._find("duplicated", stray)
        elif seq == at.seq + 1:
            self._find("edited", stray)
        if seq > at.seq:
            self._record_missing(at, seq - 1, stray)
            self._at = msgspec.structs.replace(stray, seq=seq)

    def _record_missing(self, at: _Spot, last: int, spot: _Spot) -> None:
        """Record that the lines after `at` up to `last` are missing before `spot`, unless bad ones follow."""
        if last - at.seq <= spot.broken - at.broken:
            return
        if len(self._gaps) < MOST:
            self._gaps.append(_Gap(at.seq + 1, last, spot.place))
        else:
            self.findings.left_out += 1

    def _fill(self, seq: int) -> bool:
        """Remove a number from the gap that contains it; return False if there is none."""
        position = bisect_right(self._gaps, seq, key=lambda gap: gap.first) - 1
        gap = self._gaps[position] if position >= 0 else None
        if not gap or gap.last < seq:
            return False
        if len(self._gaps) < 2 * MOST:
            parts = [_Gap(gap.first, seq - 1, gap.place), _Gap(seq + 1, gap.last, gap.place)]
            self._gaps[position : position + 1] = [part for part in parts if part.first <= part.last]
        return True

    def _compare(self, head: Head) -> None:
        """Compare a line with the head file, if it has the same number."""
        if self.anchor and head.seq == self.anchor.seq:
            self._anchored = self._anchored or head == self.anchor
            self._anchor_place = self._place

    def _check_end(self) -> None:
        anchor, end = self.anchor, self._at or _Spot(0, (), Place())
        place = self._at.place if self._at else self._place
        if not anchor:
            if self._at or self._fault:
                self.findings.add("head_missing", Place(), text=self._fault or "the file does not exist")
        elif anchor.seq > end.seq:
            if anchor.seq - end.seq > self._broken - end.broken:
                self.findings.add("removed_at_end", place, (end.seq + 1, anchor.seq))
        elif anchor.seq < self.first - 1 or (self._anchor_place and not self._anchored):
            self.findings.add("head_differs", self._anchor_place or Place(), (anchor.seq, anchor.seq))

    def _find(self, kind: Kind, spot: _Spot) -> None:
        self.findings.add(kind, spot.place, (spot.seq, spot.seq), spot.text)


def _fault_of(line: bytes) -> Kind:
    if len(line) > LONGEST:
        return "too_long"
    return "unsealed" if fields_of(line) is not None else "not_json"


def _begin_of(line: bytes) -> bytes:
    return line[: SHOWN * 4].removesuffix(b"\n")
