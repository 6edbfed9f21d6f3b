"""Lists of GPUs as people write them: `3`, `0-3`, `0,2`, `all`, or the beginning of a UUID."""

import re
from typing import Literal

from canhazgpu.events.sanitize import UUID_START, printable
from canhazgpu.events.spelling.gpu_ranges import spell_ranges

ALL: Literal["all"] = "all"
MOST = 1024
FORMS = "3, 0-3, 0,2, all, or the beginning of a UUID such as GPU-8f3c"
GpuNames = list[int | str] | Literal["all"]
_INDEX = re.compile("[0-9]{1,4}")
_RANGE = re.compile("([0-9]{1,4})-([0-9]{1,4})")
_UUID = re.compile(UUID_START)


def gpu_list(text: str) -> GpuNames:
    """Return `all`, or the indices and beginnings of UUIDs in a list. Raises ValueError with a message."""
    if text.strip() == ALL:
        return ALL
    found = [one for word in text.split(",") for one in _part(word.strip(), text)]
    if len(set(found)) != len(found):
        raise ValueError(f"{printable(text)} names a GPU twice")
    if beyond := [one for one in found if isinstance(one, int) and one >= MOST]:
        raise ValueError(f"there is no GPU {spell_ranges(beyond)} (`canhazgpu status` lists them)")
    return found


def one_gpu(text: str) -> int | str:
    """Return an index, or the beginning of a UUID. Raises ValueError with a message."""
    word = text.strip()
    if _INDEX.fullmatch(word):
        return int(word)
    if not _UUID.fullmatch(word):
        raise ValueError(f"{printable(text)!r} is not a GPU: write its number, or the beginning of its UUID")
    return word


def is_start(name: int | str, uuid: str) -> bool:
    """Return whether `name` is the beginning of a UUID, in whatever case."""
    return isinstance(name, str) and uuid.casefold().startswith(name.casefold())


def _part(word: str, text: str) -> list[int | str]:
    span = _RANGE.fullmatch(word)
    if span and int(span[1]) <= int(span[2]):
        return list(range(int(span[1]), int(span[2]) + 1))
    try:
        return [one_gpu(word)]
    except ValueError:
        raise ValueError(f"{printable(text)!r} is not a list of GPUs: write it like {FORMS}") from None
