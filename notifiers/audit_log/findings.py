"""The findings of a check of the audit log: a list of bounded length."""

from typing import Literal

import msgspec

from canhazgpu.events.sanitize import printable

Kind = Literal[
    "edited",
    "unsealed",
    "not_json",
    "too_long",
    "out_of_order",
    "duplicated",
    "removed",
    "removed_at_end",
    "unreadable",
    "head_missing",
    "head_differs",
]
OF_LINES = frozenset({"edited", "unsealed", "not_json", "too_long", "out_of_order", "duplicated"})
MOST = 1000
SHOWN = 60  # Maximum length of a bad line or a reason, in characters.


class Place(msgspec.Struct, frozen=True):
    """A line: its overall number, its file and its number in the file; 0 and an empty name mean none."""

    number: int = 0
    file: str = ""
    line: int = 0


class Finding(msgspec.Struct, kw_only=True):
    """A problem in lines `line` to `last_line` of a file; 0 if it is not about a line.

    `first_seq` to `last_seq` are the affected numbers, 0 for none. `text` is the start of the line, or a
    reason, in printable form.
    """

    kind: Kind
    file: str
    line: int
    last_line: int
    first_seq: int = 0
    last_seq: int = 0
    text: str = ""


class Findings:
    """The findings so far. Adjacent bad lines of one kind are merged into one finding."""

    def __init__(self) -> None:
        """Start without findings."""
        self.listed: list[Finding] = []
        self.left_out = 0

    def add(self, kind: Kind, place: Place, seqs: tuple[int, int] = (0, 0), text: str | bytes = "") -> None:
        """Add a finding at `place`; more than MOST are only counted. `text` is made printable."""
        last = self.listed[-1] if self.listed else None
        together = last and (last.kind, last.file, last.last_line + 1) == (kind, place.file, place.line)
        if last and together and kind in OF_LINES:
            last.last_line, last.last_seq = place.line, seqs[1]
        elif len(self.listed) < MOST:
            shown = printable(text, SHOWN)
            made = Finding(kind=kind, file=place.file, line=place.line, last_line=place.line, text=shown)
            made.first_seq, made.last_seq = seqs
            self.listed.append(made)
        else:
            self.left_out += 1

    def sort(self, names: list[str]) -> None:
        """Sort the findings by file and line; those without a file come last."""
        order = {name: position for position, name in enumerate(names)}
        self.listed.sort(key=lambda one: (order.get(one.file, len(names)), one.line))
