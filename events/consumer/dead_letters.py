"""The file with the events that a consumer could not handle, one JSON object per line.

It is a file because a consumer may not write to the host's Redis.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from canhazgpu.events.consumer.stream_event import StreamEvent

MODE = 0o600


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that was given up, and why. If the entry is not an event, `raw` has its fields as text."""

    time: str
    stream: str
    group: str
    stream_id: str
    reason: str
    attempts: int
    event: StreamEvent | None = None
    raw: dict[str, str] = {}


class GivenUp(Exception):
    """The consumer could not handle an event, and has no file for dead letters. The event stays pending."""


def raw_text(fields: dict[bytes, bytes]) -> dict[str, str]:
    """Return the fields of an entry as text, whatever their bytes are."""
    return {_text(name): _text(value) for name, value in fields.items()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def append(path: Path, letter: DeadLetter) -> None:
    """Append a dead letter; it is on the disk when this returns. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # A crash, or a full disk.
        line = b"\n" * torn + msgspec.json.encode(letter) + b"\n"
        if os.write(file, line) != len(line):
            raise OSError(f"{path}: only a part of the line was written")
        os.fsync(file)
    finally:
        os.close(file)


def read_dead_letters(path: str | Path) -> Iterator[DeadLetter]:
    """Yield the dead letters of a file, oldest first; lines that are not complete are left out."""
    with Path(path).open("rb") as file:
        for line in file:
            try:
                yield msgspec.json.decode(line, type=DeadLetter)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
