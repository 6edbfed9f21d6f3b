"""Bookings as a calendar that other programs can import (RFC 5545)."""

from __future__ import annotations

import os

from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_ranges import name_gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REFRESH = "PT15M"  # How often a program that subscribes to the calendar should read it.
FOLD = 74  # Bytes of a line, without the space that begins the rest of a longer one.
SPECIAL = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"})


def calendar(rows: list[dict[str, Any]], host: str = "") -> str:
    """Return the bookings of `host`, or of this one, in UTC, with lines that end as RFC 5545 wants them."""
    host = printable(host or os.uname().nodename)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//canhazgpu//bookings//EN",
        f"X-WR-CALNAME:{f'GPUs of {host}'.translate(SPECIAL)}",  # Most programs show this name.
        f"REFRESH-INTERVAL;VALUE=DURATION:{REFRESH}",  # RFC 7986.
        f"X-PUBLISHED-TTL:{REFRESH}",
    ]
    for row in rows:
        what = name_gpus(row["gpus"]) if row["gpus"] else f"{row['count']} GPU(s)"
        summary = f"{what} of {host}, booked by {printable(row['user'])}"
        note = printable(row["note"], LONGEST_WORDS) if row["note"] else ""
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
