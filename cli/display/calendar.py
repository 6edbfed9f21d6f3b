"""Bookings as a calendar that other programs can import (RFC 5545)."""

from __future__ import annotations

import os

from canhazgpu.cli.status_lines import foreign
from canhazgpu.events.sanitize import LONGEST_WORDS
from canhazgpu.events.spelling.gpu_ranges import name_gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLD = 74  # Bytes of a line, without the space that begins the rest of a longer one.
SPECIAL = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"})


def calendar(rows: list[dict[str, Any]]) -> str:
    """Return the bookings as a calendar, in UTC, with lines that end as RFC 5545 wants them."""
    host = os.uname().nodename
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//canhazgpu//bookings//EN"]
    for row in rows:
        what = name_gpus(row["gpus"]) if row["gpus"] else f"{row['count']} GPU(s)"
        summary = f"{what} of {host}, booked by {foreign(row['user'])}"
        note = foreign(row["note"], LONGEST_WORDS) if row["note"] else ""
        lines += [
            "BEGIN:VEVENT",
            f"UID:{row['id']}@{host}",
            f"DTSTAMP:{_moment(row['created'])}",
            f"DTSTART:{_moment(row['begin'])}",
            f"DTEND:{_moment(row['end'])}",
            f"SUMMARY:{summary.translate(SPECIAL)}",
            *([f"DESCRIPTION:{note.translate(SPECIAL)}"] if note else []),
            "END:VEVENT",
        ]
    return "".join(f"{_folded(line)}\r\n" for line in [*lines, "END:VCALENDAR"])


def _moment(text: str) -> str:
    """Return `20261201T090000Z` for a time as in responses."""
    return f"{text[:19].replace('-', '').replace(':', '')}Z"


def _folded(line: str) -> str:
    """Return a line in parts of at most 75 bytes; no character is cut."""
    parts, size = [""], 0
    for character in line:
        size += len(character.encode())
        if size > FOLD:
            parts.append("")
            size = len(character.encode())
        parts[-1] += character
    return "\r\n ".join(parts)
