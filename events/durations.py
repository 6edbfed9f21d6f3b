"""Parses and formats durations: `1h30m`, `2 days` or `1:30:00` as input, `1h 30m 0s` or `1d 4h` as output."""

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WORDS = {
    "sec": "s",
    "second": "s",
    "min": "m",
    "minute": "m",
    "hr": "h",
    "hour": "h",
    "day": "d",
    "week": "w",
}
_PART = r"([0-9]+(?:\.[0-9]+)?) ?([a-z]+) *"
_CLOCK = r"(?:([0-9]+)-)?([0-9]+):([0-5][0-9]):([0-5][0-9])"
EXAMPLES = "30s, 30m, 2h, 1h30m, 1:30:00, 2 days or 1w"
DAY, HOUR, MINUTE = 86400, 3600, 60
LONGEST = 100 * 365 * 86400  # A century: a longer duration is more likely a typing error.


def parse_duration(text: str) -> float:
    """Return a duration such as `30s`, `0.5h`, `1h30m`, `2 days` or `1:30:00` in seconds.

    Capital letters mean the same: `M` is minutes. Raises ValueError with a readable message for anything
    else: no unit, a sign, hours and minutes without seconds (`1:30` is something else to every program), or
    more than a hundred years.
    """
    compact = text.strip()
    compact = compact.lower() if compact.isascii() else compact
    number, unit = compact[:-1], compact[-1:]
    if unit in _UNITS and number.isascii() and number.isdecimal():
        total = float(number) * _UNITS[unit]
    else:
        total = _long_form(compact)
    if not total <= LONGEST:
        message = f"'{text[:40]}' is longer than a hundred years"
        raise ValueError(message)
    return total


def _long_form(text: str) -> float:
    """Return the seconds of a duration in any form. Most are a number and a letter, which need no `re`."""
    import re  # noqa: PLC0415 - it takes as long to load as the rest of a command

    clock = re.fullmatch(_CLOCK, text)
    if clock:
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    parts = re.findall(_PART, text)
    units = [_unit(word) for _, word in parts]
    if not parts or re.sub(_PART, "", text) or not all(units):
        message = f"'{text[:40]}' is not a duration: write {EXAMPLES}"
        raise ValueError(message)
    return sum(float(number) * _UNITS[unit] for (number, _), unit in zip(parts, units, strict=True))


def _unit(word: str) -> str:
    """Return the short name of a unit, or an empty text if there is none."""
    return word if word in _UNITS else _WORDS.get(word.removesuffix("s"), "")


def spell_duration(seconds: float) -> str:
    """Return `seconds` as `2h 0m 0s`, whole seconds rounded down, never negative."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}h {whole % 3600 // 60}m {whole % 60}s"


def spell_length(seconds: float) -> str:
    """Return `seconds` for people: `2h 0m 0s`, and from a day on `30d` or `1d 4h`, to the nearest hour.

    The last half minute before a day counts as the day, so that a new reservation has its full length.
    """
    if seconds < DAY - MINUTE / 2:
        return spell_duration(seconds)
    days, hours = divmod(round(seconds / HOUR), DAY // HOUR)
    return f"{days}d {hours}h" if hours else f"{days}d"


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
