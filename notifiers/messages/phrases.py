"""Phrases used in all notices: GPUs, names, times, durations, readers."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from canhazgpu.events.durations import format_duration
from canhazgpu.events.notices import ADMINS, HOLDER, OFFENDER, Notice
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import is_instance, place_of, spell_gpu, without_parts
from canhazgpu.events.timestamps import local_time

SENTENCE_LIMIT = 200  # Characters of text written by people: a note, a reason, a contact.
MOST_NAMED = 32
MINUTE = 60
FOR = "4h"  # The duration in the commands that notices suggest.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z", re.ASCII)


def reader_of(notice: Notice) -> str:
    """Return the audience whose wording is used: administrators if no user is proven to be the offender."""
    if notice.person is None and notice.audience in (OFFENDER, HOLDER):
        return ADMINS
    return notice.audience


def gpus(numbers: Iterable[int]) -> str:
    """Return `GPU 2` or `GPUs 1, 3 and 4`; a very long list is cut."""
    ordered = _named(numbers)
    if not ordered:
        return "no GPU"
    more = len(ordered) - MOST_NAMED
    named = [spell_gpu(number) for number in ordered[:MOST_NAMED]] + ([f"{more} more"] if more > 0 else [])
    return f"{'GPU' if len(ordered) == 1 else 'GPUs'} {joined(named)}"


def listed(numbers: Iterable[int]) -> str:
    """Return `1,3,4`, as `--gpu-ids` takes it."""
    return ",".join(map(spell_gpu, _named(numbers)))


def as_many(numbers: Iterable[int]) -> str:
    """Return the option that asks for as many GPUs, or for these if there is a MIG instance among them."""
    found = tuple(numbers)
    if any(map(is_instance, found)):
        return f"--gpu-ids {listed(found)}"
    return f"--gpus {max(1, len(set(found)))}"


def _named(numbers: Iterable[int]) -> list[int]:
    """Return GPUs in order, without MIG instances of those that are named themselves."""
    return sorted(without_parts(tuple(set(numbers))), key=place_of)


def joined(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def counted(number: int, what: str) -> str:
    """Return `1 notice` or `2 notices`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def capitalised(sentence: str, name: str) -> str:
    """Return a sentence with a capital letter at the start, unless it starts with a name."""
    return sentence if name and sentence.startswith(name) else sentence[:1].upper() + sentence[1:]


def safe_text(text: str | None) -> str:
    """Return text that somebody wrote, made safe to print, without a full stop at the end."""
    return printable(text or "", SENTENCE_LIMIT).strip().rstrip(".")


def moment(time: str | None) -> str:
    """Return `2026-11-24 10:15:47 CET` for an RFC 3339 time in UTC."""
    return (local_time(time) if _MOMENT.fullmatch(time or "") else "") or "an unknown time"


def stamp(time: str | None) -> str:
    """Return `2026-11-24T09:15:47Z`, as commands accept it, or `1d` if the time is not valid."""
    found = _MOMENT.fullmatch(time or "")
    return f"{found[1]}T{found[2]}Z" if found else "1d"


def length(since: str | None, until: str | None) -> str:
    """Return the time between two moments as `4h`, rounded to minutes if it is long; empty if unknown."""
    try:
        begin, end = (datetime.fromisoformat(time or "") for time in (since, until))
        seconds = (end - begin).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return ""
    if seconds < 0:
        return ""
    whole = round(seconds / MINUTE) * MINUTE if seconds >= 2 * MINUTE else round(seconds)
    return format_duration(whole)
