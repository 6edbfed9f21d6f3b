"""What a check of the audit log found: a bounded list, however many lines are bad."""

from typing import Literal

import msgspec

from canhazgpu.events.text import printable

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
SHOWN = 60  # Characters of a bad line, or of a reason.


class Place(msgspec.Struct, frozen=True):
    """A line: its number over all files, its file's name, its number there; 0 and no name: nowhere."""

    number: int = 0
    file: str = ""
    line: int = 0


class Finding(msgspec.Struct, kw_only=True):
    """Something wrong in lines `line` to `last_line` of a file; 0 when it is about no line.

    `first_seq` to `last_seq` are the numbers it is about, 0 for none. `text` is the line's beginning, or
    a reason, made printable.
    """

    kind: Kind
    file: str
    line: int
    last_line: int
    first_seq: int = 0
    last_seq: int = 0
    text: str = ""


class Findings:
    """Findings in the order they were made; bad lines of one kind that stand together are one."""

    def __init__(self) -> None:
        """Begin with none."""
        self.kept: list[Finding] = []
        self.left_out = 0

    def add(self, kind: Kind, place: Place, seqs: tuple[int, int] = (0, 0), text: str | bytes = "") -> None:
        """Add what was found at `place`; past MOST it is only counted. `text` is made printable."""
        last = self.kept[-1] if self.kept else None
        together = last and (last.kind, last.file, last.last_line + 1) == (kind, place.file, place.line)
        if last and together and kind in OF_LINES:
            last.last_line, last.last_seq = place.line, seqs[1]
        elif len(self.kept) < MOST:
            shown = printable(text, SHOWN)
            made = Finding(kind=kind, file=place.file, line=place.line, last_line=place.line, text=shown)
            made.first_seq, made.last_seq = seqs
            self.kept.append(made)
        else:
            self.left_out += 1

    def sort(self, names: list[str]) -> None:
        """Put them in the order of the files and their lines; what is about no file comes last."""
        order = {name: position for position, name in enumerate(names)}
        self.kept.sort(key=lambda one: (order.get(one.file, len(names)), one.line))
