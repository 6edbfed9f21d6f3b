"""The charts of a report on a terminal: a bar for each row, and the hours of the week."""

import shutil
import sys
from collections.abc import Sequence
from typing import Any

# Field of the answer, what it is called, how it is drawn, in ASCII, and its colour.
PARTS = (
    ("active_s", "active", "█", "#", "32"),
    ("idle_s", "idle", "▓", "i", "33"),
    ("unused_s", "unused", "▒", "u", "36"),
    ("unseen_s", "unseen", "░", "?", "90"),
    ("unreserved_s", "unreserved", "▚", "!", "31"),
)
SHADES, PLAIN_SHADES = " ░▒▓█", " .:+#"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST_ROWS, LONGEST_NAME, NARROWEST = 40, 24, 10


def bars(names: Sequence[str], rows: Sequence[dict[str, Any]], *, colour: bool) -> str:
    """Return a bar for each row that has hours; all have the same scale."""
    drawn = [
        (name, row) for name, row in zip(names, rows, strict=True) if any(row[part[0]] for part in PARTS)
    ][:MOST_ROWS]
    if not drawn:
        return ""
    label = min(LONGEST_NAME, max(len(name) for name, _ in drawn))
    width = max(NARROWEST, shutil.get_terminal_size().columns - label - 2)
    most = max(sum(row[part[0]] for part in PARTS) for _, row in drawn)
    plain = _plain()
    lines = [f"{name[:label].ljust(label)} {_bar(row, width / most, plain, colour)}" for name, row in drawn]
    legend = ", ".join(f"{ascii_ if plain else sign} {words}" for _, words, sign, ascii_, _ in PARTS)
    return "\n".join([*lines, f"{' ' * label} {legend}"]) + "\n"


def _bar(row: dict[str, Any], scale: float, plain: bool, colour: bool) -> str:  # noqa: FBT001
    """Return a bar whose parts end where the sum so far does, so that rounding never adds up."""
    pieces, done, at = [], 0.0, 0
    for field, _, sign, ascii_, number in PARTS:
        done += row[field]
        end = round(done * scale)
        if end > at:
            piece = (ascii_ if plain else sign) * (end - at)
            pieces.append(f"\x1b[{number}m{piece}\x1b[0m" if colour else piece)
        at = max(at, end)
    return "".join(pieces)


def heat_map(week: Sequence[Sequence[float | None]]) -> str:
    """Return the share of the GPUs that was reserved or used, by weekday and local time of day."""
    shades = PLAIN_SHADES if _plain() else SHADES
    lines = ["".join(["    ", *(f"{hour:<6}" for hour in range(0, 24, 3))]).rstrip()]
    for name, day in zip(DAYS, week, strict=True):
        cells = ("--" if share is None else shades[_shade(share)] * 2 for share in day)
        lines.append(f"{name} {''.join(cells)}".rstrip())
    legend = "  ".join(f"{shades[step] * 2} {step * 25}%" for step in range(1, len(shades)))
    return "\n".join([*lines, f"    reserved or used, local time: {legend}  -- unknown"]) + "\n"


def _shade(share: float) -> int:
    return min(4, -int(-share * 4 // 1)) if share > 0 else 0


def _plain() -> bool:
    encoding = (sys.stdout.encoding or "").lower()
    return not encoding.startswith("utf")
