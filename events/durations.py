"""Parses and formats durations: `1h30m` as input, `1h 30m 0s` as output."""

import math
import re

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
EXAMPLES = "30s, 30m, 2h, 1d, 0.5h or 1h30m"
LONGEST = 100 * 365 * 86400  # A century: a longer duration is more likely a typing error.


def parse_duration(text: str) -> float:
    """Return a duration such as `30s`, `0.5h` or `1h30m` in seconds.

    Raises ValueError with a readable message for anything else: no unit, a sign, or more than a
    hundred years.
    """
    compact = text.strip()
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        message = f"'{text[:40]}' is not a duration: write {EXAMPLES}"
        raise ValueError(message)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not math.isfinite(seconds) or seconds > LONGEST:
        message = f"'{text[:40]}' is longer than a hundred years"
        raise ValueError(message)
    return seconds


def spell_duration(seconds: float) -> str:
    """Return `seconds` as `2h 0m 0s`, whole seconds rounded down, never negative."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}h {whole % 3600 // 60}m {whole % 60}s"


def format_duration(seconds: float) -> str:
    """Return `seconds` in the syntax of `parse_duration`: `1h30m`, `2s`, `200ms`."""
    if seconds and seconds < 1:
        return f"{round(seconds * 1000)}ms"
    parts: list[str] = []
    for unit in ("d", "h", "m"):
        count, seconds = divmod(seconds, _UNITS[unit])
        if count:
            parts.append(f"{int(count)}{unit}")
    if seconds or not parts:
        parts.append(f"{seconds:.3f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)
