"""MIG profiles as people write them: `1g.10gb`, or `1g.10gb:2` for two instances."""

from __future__ import annotations

LONGEST_PROFILE = 32
SHOWN = 64
LONGEST_NUMBER = 4  # Digits.
MOST_INSTANCES = 1024
UNITS = ("gb", "g", "c")  # Of the parts of a profile, from its end.


def read_profile(text: str) -> tuple[str, int]:
    """Return the profile in lower case, and how many instances of it. Raises ValueError with a message."""
    profile, colon, number = text.lower().partition(":")
    if not _is_profile(profile):
        form = "write it like 1g.10gb, or 1g.10gb:2 for two"
        raise ValueError(f"{text[:SHOWN]!a} is not a MIG profile: {form}")
    if not colon:
        return profile, 1
    plain = number.isascii() and number.isdecimal() and len(number) <= LONGEST_NUMBER
    if not plain or not 1 <= int(number) <= MOST_INSTANCES:
        raise ValueError(f"{text[:SHOWN]!a}: request 1 or more instances, as in {profile}:2")
    return profile, int(number)


def profile_in(name: str) -> str | None:
    """Return the profile in the name of an instance, such as `NVIDIA A100 MIG 1g.10gb`, or None."""
    profile = name.rpartition(" MIG ")[2].lower()
    return profile if profile != name.lower() and _is_profile(profile) else None


def _is_profile(text: str) -> bool:
    """Return whether this is a profile: `1g.10gb`, `1g.10gb+me`, or `1c.2g.20gb`."""
    sizes, mark, attributes = text.replace("-", "+").partition("+")
    parts = sizes.split(".")[::-1]
    if not text.isascii() or len(text) > LONGEST_PROFILE or len(parts) not in (2, 3):
        return False
    if mark and not attributes.replace("+", "").replace(".", "").isalnum():
        return False
    return all(
        part.endswith(unit) and part.removesuffix(unit).isdecimal()
        for part, unit in zip(parts, UNITS, strict=False)
    )
