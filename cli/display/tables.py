"""Tables that fit a width: flexible columns become narrower, then columns are left out in a given order."""

from __future__ import annotations

from canhazgpu.cli.display.terminal import fit, width_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP = 2


class Column:
    """A column: its title and cells. `least` is the width to which it may be cut; 0 means never.

    `drop`: its place in the order in which columns are left out, the first at 1; 0 means never. `right`:
    numbers are aligned on the right.
    """

    def __init__(
        self,
        title: str,
        cells: Sequence[str],
        *,
        least: int = 0,
        drop: int = 0,
        right: bool = False,
        paint: Callable[[int, str], str] | None = None,
    ) -> None:
        """Keep it. `paint` makes what is printed, from a row and its text."""
        self.title, self.cells, self.least, self.drop, self.right = title, cells, least, drop, right
        self.paint = paint

    @property
    def width(self) -> int:
        """The width that shows everything."""
        return max(width_of(text) for text in (self.title, *self.cells))

    @property
    def narrowest(self) -> int:
        """The width that it needs."""
        return min(self.width, max(self.least, width_of(self.title))) if self.least else self.width


def lay_out(columns: Sequence[Column], width: int) -> list[str]:
    """Return the lines of a table that is at most `width` wide, if leaving out columns can do that."""
    shown = list(columns)
    for column in sorted((one for one in columns if one.drop), key=lambda one: one.drop):
        if _total(shown) <= width:
            break
        shown.remove(column)
    spare = width - _total(shown)
    widths = []
    for column in shown:
        more = min(column.width - column.narrowest, max(0, spare))
        spare -= more
        widths.append(column.narrowest + more)
    head = [_aligned(column, column.title, room) for column, room in zip(shown, widths, strict=True)]
    lines = [(" " * GAP).join(head).rstrip()]
    for row in range(len(columns[0].cells)):
        cells = [_cell(column, row, room) for column, room in zip(shown, widths, strict=True)]
        lines.append((" " * GAP).join(cells).rstrip())
    return lines


def _total(columns: Sequence[Column]) -> int:
    return sum(column.narrowest for column in columns) + GAP * (len(columns) - 1)


def _cell(column: Column, row: int, room: int) -> str:
    text = _aligned(column, column.cells[row], room)
    return column.paint(row, text) if column.paint else text


def _aligned(column: Column, text: str, room: int) -> str:
    if column.right and width_of(text) < room:
        return " " * (room - width_of(text)) + text
    return fit(text, room)
