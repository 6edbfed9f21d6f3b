"""The body of a request from the arguments of `reserve`; an invalid one is reported by its name in Python."""

from collections.abc import Sequence
from operator import index
from typing import Any

from canhazgpu.events.durations import parse_duration
from canhazgpu.events.sanitize import LONGEST_WORDS
from canhazgpu.events.spelling.mig_profiles import read_profile

MOST = 1024
VENDORS = ("nvidia", "amd")


def request_body(  # noqa: PLR0913, PLR0917 - the arguments of `reserve`
    gpus: int,
    gpu_ids: Sequence[int | str] | None,
    duration: str | None,
    note: str | None,
    vendor: str | None = None,
    mig: str | None = None,
) -> dict[str, Any]:
    """Return the body. Raises TypeError and ValueError."""
    body: dict[str, Any] = {"kind": "manual", **_which(gpus, gpu_ids, mig)}
    if vendor is not None:
        if vendor not in VENDORS:
            raise ValueError(f"vendor must be one of {', '.join(VENDORS)}, not {vendor!r}")
        body["vendor"] = vendor
    if duration is not None:
        body["duration"] = _time("duration", duration, "a string such as '4h'")
    if note is not None:
        if not isinstance(note, str):
            raise TypeError(f"note must be a string, not {note!r}")
        if len(note) > LONGEST_WORDS:
            raise ValueError(f"note has {len(note)} characters; the limit is {LONGEST_WORDS}")
        body["note"] = note
    return body


def checked_wait(wait: bool | str) -> bool | str:  # noqa: FBT001 - three meanings
    """Return `wait` unchanged. Raises TypeError and ValueError."""
    return wait if isinstance(wait, bool) else _time("wait", wait, "True, False or a string such as '30m'")


def _which(gpus: int, gpu_ids: Sequence[int | str] | None, mig: str | None) -> dict[str, Any]:
    count = _count(gpus)
    if mig is not None:
        return _instances(count, gpu_ids, mig)
    if gpu_ids is None:
        return {"count": count}
    if isinstance(gpu_ids, str | bytes) or not hasattr(gpu_ids, "__iter__"):
        raise TypeError(f"gpu_ids must be a list such as [0, 1], not {gpu_ids!r}")
    named = [_gpu(one) for one in gpu_ids]
    if not named:
        raise ValueError("gpu_ids is empty: name GPUs, such as [0, 1], or leave it out")
    if count not in (1, len(named)):
        raise ValueError(f"gpus is {count}, but gpu_ids has {len(named)}: leave one of them out")
    return {"gpus": named}


def _instances(count: int, gpu_ids: Sequence[int | str] | None, mig: str) -> dict[str, Any]:
    if not isinstance(mig, str):
        raise TypeError(f"mig must be a string such as '1g.10gb', not {mig!r}")
    try:
        profile, number = read_profile(mig)
    except ValueError as error:
        raise ValueError(f"mig: {error}") from None
    if gpu_ids is not None:
        raise ValueError(f"mig is {mig!r}, but gpu_ids names GPUs: leave one of them out")
    if count != 1:
        raise ValueError(f"mig is {mig!r}, but gpus is {count}: write mig='{profile}:{count}'")
    return {"count": number, "profile": profile}


def _count(gpus: int) -> int:
    try:
        count = index(gpus) if not isinstance(gpus, bool) else None
    except TypeError:
        count = None
    if callable(gpus):
        raise TypeError("write @reserve(), with parentheses, or @reserve(gpus=2)")
    if count is None:
        raise TypeError(f"gpus must be a number such as 2, not {gpus!r}; gpu_ids=[0, 1] selects GPUs")
    if not 1 <= count <= MOST:
        raise ValueError(f"gpus is {count}: reserve 1 or more")
    return count


def _gpu(name: int | str) -> int | str:
    if isinstance(name, str):
        return name
    try:
        number = index(name)
    except TypeError:
        raise TypeError(f"gpu_ids has {name!r}, which is neither a number nor the start of a UUID") from None
    if not 0 <= number < MOST:
        raise ValueError(f"gpu_ids: there is no GPU {number}")
    return number


def _time(name: str, text: str, form: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be {form}, not {text!r}")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if seconds < 1:
        raise ValueError(f"{name}: '{text}' is too short: use at least 1s")
    return text
