"""The audit log: one JSON line a fact, each written exactly once, whatever dies in between.

The file is the truth: when it is opened, the ids in its last part and in its rotated siblings are
read, and what is there is not written again. One process writes at a time, by a lock beside it.
"""

import contextlib
import errno
import fcntl
import gzip
import json
import os
import threading
import time
import zlib
from pathlib import Path

import msgspec

from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import Notice

TAIL = 4 * 1024 * 1024  # Bytes read of each file: more than could ever be unacknowledged.
SIBLINGS_AGE = 2 * 86400.0
REMEMBERED = 50_000


class AuditLog:
    """A log that takes each id once, one line at a time whichever thread it comes from."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened with the first line."""
        self.path = path
        self._file: int | None = None
        self._lock: int | None = None
        self._ids: dict[str, None] = {}
        self._turn = threading.Lock()

    def append(self, entry_id: str, line: bytes) -> bool:
        """Write `line`, fsynced; False when `entry_id` was there already.

        Raises OSError when it cannot be written (no right, full disk, another writer): nothing of
        the line is left then, and it may be tried again.
        """
        with self._turn:
            return self._append(entry_id, line)

    def _append(self, entry_id: str, line: bytes) -> bool:
        file = self._open()
        if entry_id in self._ids:
            return False
        size = os.fstat(file).st_size
        try:
            _write(file, line)
        except OSError:
            try:
                os.ftruncate(file, size)
            except OSError:  # Opened anew it is mended.
                os.close(file)
                self._file = None
            raise
        self._remember(entry_id)
        return True

    def close(self) -> None:
        """Close the file and let go of the lock."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _open(self) -> int:
        """Return the descriptor of the file that bears the name now: it may have been rotated."""
        if self._lock is None:
            self._take_lock()
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                if self.path.stat().st_ino == os.fstat(self._file).st_ino:
                    return self._file
            os.close(self._file)
            self._file = None
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            _mend(file)
        except OSError:
            os.close(file)
            raise
        self._file = file
        return file

    def _take_lock(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        name = self.path.with_name(f".{self.path.name}.lock")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BlockingIOError(errno.EAGAIN, f"{self.path}: another process writes this log") from None
        self._lock = lock
        self._ids = {}
        for sibling in self._siblings():
            for entry_id in _ids_in(sibling):
                self._remember(entry_id)

    def _siblings(self) -> list[Path]:
        """Return the log and what it was rotated to lately, the oldest first."""
        found = []
        for path in self.path.parent.glob(f"{self.path.name}*"):
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime
                if path == self.path or time.time() - changed < SIBLINGS_AGE:
                    found.append((changed, path))
        return [path for _, path in sorted(found)]

    def _remember(self, entry_id: str) -> None:
        self._ids[entry_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.pop(next(iter(self._ids)))


def line_of(event: Event) -> bytes:
    """Return a fact as a line of the log: id, type, time, subject, then its data; ASCII throughout."""
    head = {"id": event.id, "type": event.type, "time": event.time, "subject": event.subject}
    return json.dumps({**head, **event.data}).encode("ascii") + b"\n"


def notice_line(notice: Notice) -> bytes:
    """Return the line that says who is told of what: its head, whom it is about and for, not every detail."""
    line = {
        "id": notice.notice,
        "type": "canhazgpu.notice.test" if notice.kind == "test" else "canhazgpu.notice.created",
        "time": notice.created,
        "subject": f"notice/{notice.notice}",
        "kind": notice.kind,
        "episode": notice.episode,
        "user": notice.user,
        "audience": notice.audience,
        "person": notice.person,
        "channels": notice.channels,
        "violations": [violation.violation for violation in notice.violations],
    }
    return json.dumps(line).encode("ascii") + b"\n"


def _write(file: int, line: bytes) -> None:
    written = os.write(file, line)
    if written < len(line):
        raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
    os.fsync(file)


def _mend(file: int) -> None:
    """Cut off a torn last line: its writer died before it was acknowledged, so it is written again."""
    size = os.fstat(file).st_size
    start = max(0, size - TAIL)
    tail = os.pread(file, size - start, start)
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(file, start + tail.rfind(b"\n") + 1)


def _ids_in(path: Path) -> list[str]:
    with contextlib.suppress(OSError, EOFError, zlib.error):
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                return [*filter(None, map(_id_of, packed))]
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return [*filter(None, map(_id_of, file))]
    return []


def _id_of(line: bytes) -> str | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return str(msgspec.json.decode(line)["id"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return None
