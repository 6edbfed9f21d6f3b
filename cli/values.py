"""What the values of options must be. Each check returns the value, or raises ValueError with a message."""

import os

from canhazgpu.events.sanitize import LONGEST_WORDS, NAME_LIMIT, printable

LONGEST_NUMBER = 9
VENDORS = ("nvidia", "amd")


def non_empty(text: str) -> str:
    """Reject an empty value, and one that is not valid UTF-8."""
    if not text.strip():
        raise ValueError("the value is empty: leave the option out, or give a value")
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = printable(os.fsencode(text))
        raise ValueError(f"the value is not valid UTF-8: canhazgpu shows it as '{shown}'") from None
    return text


def integer(text: str) -> int:
    """Return the number in plain ASCII digits. Unlike int(), reject `1_0` and `٣`."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST_NUMBER):
        raise ValueError(f"{printable(text)!r} is not a whole number")
    return int(text)


def gpu_count(text: str) -> int:
    """Return a number of GPUs. Reject `all` and `device=0`, which docker allows there."""
    try:
        return integer(text)
    except ValueError as error:
        raise ValueError(f"{error}: --gpu-ids says which GPUs, such as 0,2 or all") from None


def mig(text: str) -> str:
    """Return a MIG profile, with a number of instances: `1g.10gb`, `1g.10gb:2`."""
    from canhazgpu.events.spelling.mig_profiles import read_profile  # noqa: PLC0415 - few need it

    read_profile(text)
    return text.lower()


def vendor(text: str) -> str:
    """Return the vendor of GPUs, in lower case."""
    if text.lower() not in VENDORS:
        raise ValueError(f"{printable(text)!r} is not one of {', '.join(VENDORS)}")
    return text.lower()


def name(text: str) -> str:
    """Reject what the service would not accept as a name."""
    return _at_most(NAME_LIMIT, text)


def words(text: str) -> str:
    """Reject what the service would not accept as a reason or a note."""
    return _at_most(LONGEST_WORDS, text)


def _at_most(longest: int, text: str) -> str:
    if len(text) > longest:
        raise ValueError(f"it has {len(text)} characters; the limit is {longest}")
    return non_empty(text)
