"""Lists of GPUs as people write them: `3`, `0-3`, `0,2`, `all`, or the beginning of a UUID."""

from __future__ import annotations

from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import read_instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    GpuNames = list[int | str] | Literal["all"]

ALL: Literal["all"] = "all"
MOST = 1024
FORMS = "3, 0-3, 0,2, 0:1, all, or the beginning of a UUID such as GPU-8f3c"
LONGEST_NUMBER = 4
LONGEST_UUID = 127  # What follows the first dash, as in UUID_START.
UUID_MARKS = str.maketrans("", "", "./_-")


class NoGpu(ValueError):
    """A number that no GPU has."""


def gpu_list(text: str) -> GpuNames:
    """Return `all`, or the indices and beginnings of UUIDs in a list. Raises ValueError with a message."""
    if text.strip().lower() == ALL:
        return ALL
    found = [one for word in text.split(",") for one in _part(word.strip(), text)]
    if len(set(found)) != len(found):
        raise ValueError(f"{printable(text)} names a GPU twice")
    return found


def one_gpu(text: str) -> int | str:
    """Return an index, or the beginning of a UUID. Raises ValueError with a message."""
    word = text.strip()
    number = word.lower().removeprefix("cuda:").removeprefix("gpu")  # As torch and people call it.
    if _is_index(number):
        return _listed(int(number))
    if (instance := read_instance(number)) is not None:
        return instance
    if not _is_uuid_start(word):
        raise ValueError(f"{printable(text)!r} is not a GPU: write its number, or the beginning of its UUID")
    return word


def is_start(name: int | str, uuid: str) -> bool:
    """Return whether `name` is the beginning of a UUID, in whatever case."""
    return isinstance(name, str) and uuid.casefold().startswith(name.casefold())


def _listed(number: int) -> int:
    if number >= MOST:
        raise NoGpu(f"there is no GPU {number} (`canhazgpu status` lists them)")
    return number


def _part(word: str, text: str) -> list[int | str]:
    first, _, last = word.partition("-")
    if _is_index(first) and _is_index(last) and int(first) <= int(last):
        return list(range(int(first), _listed(int(last)) + 1))
    try:
        return [one_gpu(word)]
    except NoGpu:
        raise
    except ValueError:
        raise ValueError(f"{printable(text)!r} is not a list of GPUs: write it like {FORMS}") from None


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= LONGEST_NUMBER


def _is_uuid_start(word: str) -> bool:
    """Return whether a word is what UUID_START describes, without `re`, which takes long to load."""
    kind, dash, rest = word.partition("-")
    marked = rest.translate(UUID_MARKS)
    named = kind.isascii() and kind.isalpha() and rest.isascii() and (marked.isalnum() or not marked)
    return bool(dash) and named and len(rest) <= LONGEST_UUID
