"""What the terminal can show: its width, colours, and characters beyond ASCII."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

NARROWEST, WIDEST = 40, 200
UNLIMITED = 1_000_000
ESCAPE = "\x1b[{}m{}\x1b[0m"
_WIDE = frozenset({"W", "F"})
_NO_WIDTH = frozenset({"Mn", "Me"})


def shows_colour(stream: TextIO, *, wanted: bool = True, forced: bool = True) -> bool:
    """Return whether to write colours to a stream.

    NO_COLOR and TERM=dumb turn them off. FORCE_COLOR turns them on where the output is not a terminal, unless
    `forced` is false, because scripts read that output.
    """
    if not wanted or os.environ.get("NO_COLOR"):
        return False
    if forced and os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def columns(stream: TextIO) -> int:
    """Return the width for tables: that of COLUMNS or of the terminal, and WIDEST if there is none."""
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdigit() else 0
    return min(WIDEST, max(NARROWEST, width or _width_of_terminal(stream)))


def _width_of_terminal(stream: TextIO) -> int:
    """Return the width of the terminal, WIDEST if there is none or it does not say."""
    try:  # `shutil` would import every compression.
        return os.get_terminal_size(stream.fileno()).columns or WIDEST
    except (OSError, ValueError):
        return WIDEST


def columns_of_terminal(stream: TextIO) -> int:
    """Return the width for tables of which a pipe gets everything."""
    return columns(stream) if stream.isatty() else UNLIMITED


def is_unicode(stream: TextIO) -> bool:
    """Return whether a stream can show bars and ellipses."""
    return (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")


def paint(text: str, code: str, *, colour: bool) -> str:
    """Return text in the colour with this code, or unchanged."""
    return ESCAPE.format(code, text) if colour and code else text


def width_of(text: str) -> int:
    """Return the number of columns that a text without control characters takes."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    import unicodedata  # noqa: PLC0415 - few texts need it

    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def fit(text: str, width: int) -> str:
    """Return text in exactly `width` columns: padded, or cut with an ellipsis."""
    taken = width_of(text)
    if taken <= width:
        return text + " " * (width - taken)
    more = ELLIPSIS if width > 1 else ""
    room, kept = width - width_of(more), ""
    for character in text:
        if width_of(kept + character) > room:
            break
        kept += character
    shown = kept + more
    return shown + " " * (width - width_of(shown))


ELLIPSIS = "…" if is_unicode(sys.__stdout__ or sys.stderr) else "~"
