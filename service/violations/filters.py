"""Parses the filters for violations, which the API and the command line share."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from canhazgpu.events.contract.values import VIOLATION_KINDS
from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import is_part_of, read_index
from canhazgpu.events.timestamps import ms_of
from canhazgpu.events.violations import Violation

NAMES = ("since", "until", "user", "gpu", "kind", "open", "unreached")
WEEK_MS = 7 * 86_400_000
_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:[Zz]|[+-]\d{2}:\d{2})?)?", re.ASCII
)


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the violations that overlap a period and match all other filters that are set.

    `gpu`: on this GPU, or on a MIG instance of it. `until_ms`: None for now. `unreached`: only those whose
    user could not be notified. `uid`: the uid of `user`, because the name may have been different at another
    time.
    """

    since_ms: int
    until_ms: int | None = None
    user: str | None = None
    uid: int | None = None
    gpu: int | None = None
    kind: str | None = None
    open: bool = False
    unreached: bool = False

    def fits(self, violation: Violation) -> bool:
        """Return whether a violation matches, without considering its notices."""
        return (
            (self.user in (None, violation.user) or (self.uid is not None and self.uid == violation.uid))
            and (self.gpu is None or is_part_of(violation.gpu, self.gpu))
            and self.kind in (None, violation.kind)
            and (self.until_ms is None or ms_of(violation.since) <= self.until_ms)
            and (violation.closed is None or ms_of(violation.closed) >= self.since_ms)
        )


def filters(words: Mapping[str, str], now_ms: int, spell: Callable[[str], str] = str) -> Filters:
    """Parse `since`, `until`, `user`, `gpu`, `kind`, `open` and `unreached`.

    Raises ValueError with a readable message, in which `spell` gives the name of a filter.
    """
    said = {name: words[name] for name in NAMES if name in words}
    for name, word in said.items():
        if not word.strip():
            raise ValueError(f"{spell(name)}: the value is empty: leave it out, or give a value")
    until_ms = _moment(said["until"], now_ms, spell("until")) if "until" in said else None
    end_ms = now_ms if until_ms is None else until_ms
    since_ms = _moment(said["since"], now_ms, spell("since")) if "since" in said else end_ms - WEEK_MS
    if since_ms > end_ms or since_ms == until_ms:
        later = f"not before {spell('until')}" if until_ms is not None else "in the future"
        raise ValueError(f"{spell('since')} is {later}; a date means 00:00 UTC")
    kind, gpu = said.get("kind"), read_index(said["gpu"]) if "gpu" in said else None
    if gpu is None and "gpu" in said:
        shown = printable(said["gpu"], 20)
        raise ValueError(f"{spell('gpu')}: '{shown}' is not the number of a GPU, such as 0 or 0:1")
    if kind is not None and kind not in VIOLATION_KINDS:
        known = ", ".join(VIOLATION_KINDS)
        raise ValueError(f"{spell('kind')}: there is no kind '{printable(kind, 20)}'; use one of {known}")
    return Filters(
        since_ms=max(0, since_ms),
        until_ms=until_ms,
        user=said.get("user"),
        gpu=gpu,
        kind=kind,
        open=said.get("open") == "1",
        unreached=said.get("unreached") == "1",
    )


def _moment(text: str, now_ms: int, name: str) -> int:
    """Return a time in ms, given as a duration before now, or as a date with or without a time."""
    try:
        return now_ms - round(parse_duration(text) * 1000)
    except ValueError as error:
        if not text[:4].isdigit() or text[4:5] != "-":
            date = ", or a date such as 2026-11-25" if "write" in str(error) else ""
            raise ValueError(f"{name}: {printable(str(error), 200)}{date}") from None
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError
        found = datetime.fromisoformat(text.upper())
        return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        shown = printable(text, 40)
        raise ValueError(
            f"{name}: '{shown}' is not a time: write 2026-11-25 or 2026-11-25T14:30:00Z"
        ) from None
