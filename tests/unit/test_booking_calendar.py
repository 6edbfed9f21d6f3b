"""`bookings --ics`: what a calendar program reads, by the rules of RFC 5545."""

import re
from typing import Any

from canhazgpu.cli.display.calendar import calendar

ROW: dict[str, Any] = {
    "id": "b1796112315150-7",
    "user": "alice",
    "note": None,
    "count": 2,
    "gpus": None,
    "begin": "2026-12-01T09:00:00.000Z",
    "end": "2026-12-01T13:30:00.000Z",
    "created": "2026-11-30T08:01:02.123Z",
}


def events(text: str) -> list[dict[str, str]]:
    """Read a calendar: unfold its lines, and undo what is escaped in their values."""
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    lines = text.replace("\r\n ", "").removesuffix("\r\n").split("\r\n")
    assert (lines[0], lines[1], lines[-1]) == ("BEGIN:VCALENDAR", "VERSION:2.0", "END:VCALENDAR")
    found: list[dict[str, str]] = []
    for line in lines:
        name, _, value = line.partition(":")
        if (name, value) == ("BEGIN", "VEVENT"):
            found.append({})
        elif found and name != "END":
            found[-1][name] = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), value)
    return found


def test_a_booking_is_an_event() -> None:
    """Its times are in UTC, and its id is always the same."""
    (event,) = events(calendar([ROW]))
    assert (event["DTSTART"], event["DTEND"]) == ("20261201T090000Z", "20261201T133000Z")
    assert event["DTSTAMP"] == "20261130T080102Z"
    assert event["UID"].startswith("b1796112315150-7@")
    assert re.fullmatch(r"2 GPU\(s\) of \S+, booked by alice", event["SUMMARY"])
    assert "DESCRIPTION" not in event


def test_nothing_is_booked() -> None:
    """An empty calendar is one, too."""
    assert events(calendar([])) == []


def test_hostile_notes_are_one_value() -> None:
    """Separators are escaped, control characters are not printed, and no character is cut."""
    note = "a;b,c\\d\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nSUMMARY:mine " + "\N{ROCKET}" * 60
    found = events(calendar([{**ROW, "note": note, "gpus": [0, 1, 3]}]))
    assert len(found) == 1
    assert found[0]["DESCRIPTION"].startswith("a;b,c")
    assert "\N{ROCKET}" * 20 in found[0]["DESCRIPTION"]
    assert found[0]["SUMMARY"].startswith("GPUs 0-1, 3 of ") or "GPUs" in found[0]["SUMMARY"]
