"""The journal: a file with the live reservations, from which they are restored if Redis loses them.

Each line has the whole state and a checksum; the last valid line counts. The journal makes no decisions.
"""

import contextlib
import errno
import os
import shutil
import zlib
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

import msgspec

from canhazgpu.events.reservations import Booked, Record, Waiting

LONGEST = 1 << 20  # Bytes; a longer file is replaced with its last line.
ENDED_KEPT = 4096  # The number of ended reservations to remember.


class Card(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The administrative state of a GPU: why it is drained, and whether it is unmanaged."""

    uuid: str = ""
    drained: str = ""
    unmanaged: bool = False


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The acknowledged state. `dataset` names the Redis data, `sequence` is the number of its last event.

    `ended` has the ids of ended reservations, the oldest first; `cards` is by index.
    """

    dataset: str
    sequence: int = 0
    ledger: str = "0-0"  # The last entry of the stream of ended reservations.
    records: dict[str, Record] = {}
    requests: dict[str, Waiting] = {}
    bookings: dict[str, Booked] = {}
    promised: str = ""  # The digest of what the scripts know of these bookings.
    ended: tuple[str, ...] = ()
    cards: dict[str, Card] = {}


class Journal:
    """The journal file. Only the process with the lock on the state directory writes it."""

    rolled_back: str | None = None  # Why the state that was read is not the one of the file, if so.
    weakness: str | None = None  # What makes the state less safe although the file was written, if anything.

    def __init__(self, path: Path) -> None:
        """Store the path; nothing is opened yet."""
        self.path = path
        self._file = -1
        self._size = 0
        self._left: tuple[int, ...] = ()  # What the file was after the last write.
        # Called with every state, also if it cannot be written, before the change is answered.
        self.follow: Callable[[State], None] | None = None

    def read(self) -> State | None:
        """Return the last valid state, or None. Raises OSError."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        return next((state for line in reversed(lines) if (state := state_of(line))), None)

    def keep_damaged(self) -> str | None:
        """Keep a damaged file aside, because the next write replaces it; return what is wrong, or None.

        A last line without its end is a write that was cut off, and was never answered. Raises OSError.
        """
        try:
            complete = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return None
        if not complete or state_of(complete[-1]):
            return None
        aside = self._aside()
        if any(map(state_of, complete)):
            shutil.copy2(self.path, aside)
            return (
                f"the last line of the journal {self.path} was damaged: the line before it is used, and "
                f"the last change may be lost; a copy is {aside}"
            )
        self.path.rename(aside)
        return (
            f"the journal {self.path} was damaged and contains no readable state: what was only in the "
            f"journal is lost; it was moved to {aside}"
        )

    def _aside(self) -> Path:
        first = self.path.with_name(self.path.name + ".broken")
        names = chain([first], (first.with_name(f"{first.name}-{number}") for number in count(2)))
        return next(one for one in names if not os.path.lexists(one))

    def restorable(self) -> bool:
        """Return whether there is a state to restore from."""
        try:
            return self.read() is not None
        except OSError:
            return False

    def write(self, state: State) -> None:
        """Write the state to disk. Raises OSError; in this case the old state is kept."""
        try:
            self.append(line_of(state))
        finally:
            if self.follow is not None:
                self.follow(state)

    def append(self, line: bytes) -> None:
        """Write a line to disk. Raises OSError; in this case the old state is kept."""
        if self._file < 0 or self._size + len(line) > LONGEST or not self._is_there():
            self._replace(line)
            return
        try:
            _append(self._file, line)
        except OSError:
            os.ftruncate(self._file, self._size)  # Not half a line, which the next would be joined to.
            self._left = _facts(os.fstat(self._file))
            raise
        self._size += len(line)
        self._left = _facts(os.fstat(self._file))

    def write_copy(self) -> None:
        """Write the copy again, if there is one; `weakness` says whether that failed."""

    def is_in_place(self) -> bool:
        """Return whether the next start reads what was written."""
        return self._file >= 0 and self.replaced() is None

    def replaced(self) -> Path | None:
        """Return a file that somebody else deleted, replaced or overwrote after it was written, or None."""
        return self.path if self._file >= 0 and not self._is_there() else None

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _is_there(self) -> bool:
        try:
            return _facts(self.path.stat()) == self._left
        except OSError:
            return False

    def _replace(self, line: bytes) -> None:
        self.close()
        new = self.path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(new, flags, 0o600)
        try:
            _append(self._file, line)
            new.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            self.close()
            raise
        self._size = len(line)
        self._left = _facts(os.fstat(self._file))


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def line_of(state: State) -> bytes:
    """Return a state as one line with a checksum."""
    text = msgspec.json.encode(state)
    return _checksum(text) + b" " + text + b"\n"


def state_of(line: bytes) -> State | None:
    """Return the state of a line, or None if it is damaged."""
    checksum, _, text = line.partition(b" ")
    if text and checksum == _checksum(text):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(text, type=State)
    return None


def _append(file: int, line: bytes) -> None:
    if os.write(file, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fdatasync(file)


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
