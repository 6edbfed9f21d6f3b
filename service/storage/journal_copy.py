"""A copy of the journal outside the state directory, so that an older state directory is noticed.

It is beside the socket: in the packaged installation in /run, which no backup and no snapshot of a disk
brings back. It counts only for the boot in which it was written, because no run outlives a boot.
"""

import errno
import os
from pathlib import Path
from stat import S_IMODE, S_ISREG

import structlog

from canhazgpu.service.storage.journal import Journal, State, state_of
from canhazgpu.service.storage.machine_id import this_boot

OTHERS = 0o077  # The permissions that nobody but the owner may have.
LONGEST = 1 << 26  # Bytes; no state is longer.
UNNOTICED = "an older state_dir would not be noticed"


class JournalCopy:
    """The file with the copy: the boot, then a line of the journal. It is replaced as a whole, not synced."""

    def __init__(self, path: Path, boot: str) -> None:
        """`boot`: this machine and its boot, from `this_boot`."""
        self.path = path
        self.weakness: str | None = None  # Why it cannot be written, if so.
        self._boot = boot.encode()
        self._left: tuple[int, ...] | None = None  # What the file was after the last write.
        self._said = ""

    def read(self) -> State | None:
        """Return the state; None, with a line in the log, if it is not from this boot and service."""
        try:
            text = self._trusted()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._ignore(error.strerror or str(error))
            return None
        boot, _, line = text.partition(b"\n")
        if boot != self._boot:
            self._ignore("it is from another boot or another machine")
            return None
        state = state_of(line.rstrip(b"\n"))
        if state is None:
            self._ignore("it is damaged")
        return state

    def write(self, line: bytes) -> None:
        """Replace the copy. If this fails, it is logged once; `weakness` says why."""
        try:
            self._write(self._boot + b"\n" + line)
        except OSError as error:
            self._left = None
            self._failed(error.strerror or str(error))
        else:
            self.weakness = None

    def was_replaced(self) -> bool:
        """Return whether somebody else deleted or changed the file after it was written."""
        try:
            return self._left is not None and _facts(self.path.lstat()) != self._left
        except OSError:
            return True

    def _trusted(self) -> bytes:
        """Return the content of a file that only this user can have written. Raises OSError."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(self.path, flags)
        try:
            found = os.fstat(file)
            if not S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            if found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, f"it belongs to uid {found.st_uid}")
            if found.st_mode & OTHERS:
                raise OSError(errno.EPERM, f"it has mode {S_IMODE(found.st_mode):04o}, not 0600")
            with os.fdopen(os.dup(file), "rb") as stream:
                return stream.read(LONGEST)
        finally:
            os.close(file)

    def _write(self, text: bytes) -> None:
        new = self.path.with_name(self.path.name + ".new")
        new.parent.mkdir(parents=True, exist_ok=True, mode=0o755)  # The socket is made anew there later.
        new.unlink(missing_ok=True)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(file, text) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            new.replace(self.path)
            self._left = _facts(os.fstat(file))
        finally:
            os.close(file)

    def _ignore(self, reason: str) -> None:
        reason = f"the copy of the journal {self.path} is ignored: {reason}"
        if reason != self._said:
            self._said = reason
            structlog.get_logger().warning("journal_copy_ignored", reason=reason)

    def _failed(self, why: str) -> None:
        reason = f"the copy of the journal {self.path} cannot be written: {why}: {UNNOTICED}"
        if reason != self.weakness:
            structlog.get_logger().warning("journal_copy_failed", reason=reason)
        self.weakness = reason


class CopiedJournal(Journal):
    """A journal that is written in two places; the later state counts."""

    def __init__(self, path: Path, copy: JournalCopy) -> None:
        """Store the parameters; nothing is opened yet."""
        super().__init__(path)
        self._copy = copy
        self._line = b""  # The last one.

    def read(self) -> State | None:
        """Return the later of the two states. Raises OSError if only the journal is there, and unreadable."""
        copied, unreadable, kept = self._copy.read(), None, None
        try:
            kept = super().read()
        except OSError as error:
            unreadable = error
        if copied is None or (kept and not _is_later(copied, kept)):
            if unreadable:
                raise unreadable
            return kept
        found = "is older or has other data" if kept else "is gone or cannot be read"
        self.rolled_back = (
            f"the journal {self.path} {found}: its copy {self._copy.path} is used; "
            "state_dir was rolled back, removed or not writable"
        )
        return copied

    def append(self, line: bytes) -> None:
        """Write a line in both places. Raises OSError if the journal cannot be written."""
        try:
            super().append(line)
        finally:
            self._line = line
            self.write_copy()

    def write_copy(self) -> None:
        """Write only the copy, after that failed."""
        self._copy.write(self._line)
        self.weakness = self._copy.weakness

    def replaced(self) -> Path | None:
        """Return which of the two files somebody else deleted, replaced or overwrote, or None."""
        return super().replaced() or (self._copy.path if self._copy.was_replaced() else None)


def open_journal(state_dir: str, socket: str) -> Journal:
    """Return the journal of a state directory, with its copy beside the socket; nothing is opened yet."""
    return CopiedJournal(Path(state_dir, "journal"), JournalCopy(Path(f"{socket}.journal"), this_boot()))


def _is_later(copied: State, kept: State) -> bool:
    """Return whether the copy is ahead of the journal: it has other data, or a later event."""
    return copied.dataset != kept.dataset or copied.sequence > kept.sequence


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_uid, found.st_mode
