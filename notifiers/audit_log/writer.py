"""The audit log: one line of JSON per event, written exactly once, even after a crash.

When the file is opened, the ids at its end and in its rotated files are read, and events with these ids are
not written again. A lock file ensures that only one process writes. Each line is chained to the one before,
across rotations and restarts; see `chain.py`.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import threading
import time
from pathlib import Path

import structlog

from canhazgpu.events.envelope import Event
from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.audit_log.chain_head import ChainHead, NoChainHead, read_chain_head, write_chain_head
from canhazgpu.notifiers.audit_log.hash_chain import START, Head, fields_of, seal
from canhazgpu.notifiers.audit_log.rotation import DAMAGED, TAIL, last_head, read_tail

SIBLINGS_AGE = 2 * 86400.0
REMEMBERED = 50_000


class AuditLog:
    """A log that writes each id once. It can be used by several threads."""

    def __init__(self, path: Path) -> None:
        """Store the path; the file is opened with the first line."""
        self.path = path
        self._file: int | None = None
        self._lock: int | None = None
        self._ids: dict[str, None] = {}
        self._head = START
        self._begin: Head | None = None  # The head of the chain at the start of this file.
        self._turn = threading.Lock()

    def append(self, entry_id: str, line: bytes) -> bool:
        """Write `line`, sealed and fsynced; return False if `entry_id` is already in the log.

        Raises OSError if it cannot be written (no permission, full disk, another writer). Then nothing
        of the line remains, and it can be retried.
        """
        with self._turn:
            return self._append(entry_id, line)

    def _append(self, entry_id: str, line: bytes) -> bool:
        file = self._open()
        if entry_id in self._ids:
            return False
        sealed, head = seal(line, self._head)
        size = os.fstat(file).st_size
        if not size:
            self._begin = self._head
            self._keep_head()
        try:
            _write(file, sealed)
        except OSError:
            try:
                os.ftruncate(file, size)
            except OSError:  # Opening it again repairs it and reads its ids.
                self._close()
            raise
        self._head = head
        self._remember(entry_id)
        self._keep_head()
        return True

    def close(self) -> None:
        """Close the file and release the lock."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _open(self) -> int:
        """Return the descriptor of the current file, because the log may have been rotated."""
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
        self._find_head()

    def _find_head(self) -> None:
        """Continue at the end of the chain in the files, or at the head file if that is ahead."""
        anchor = None
        with contextlib.suppress(OSError, NoChainHead):
            anchor = read_chain_head(self.path)
        kept = anchor or ChainHead(START)
        self._head = max(kept.head, last_head(self.path) or START, key=lambda head: head.seq)
        self._begin = kept.begin
        if not anchor or self._head != kept.head:
            self._keep_head()

    def _keep_head(self) -> None:
        try:
            write_chain_head(self.path, ChainHead(self._head, self._begin))
        except OSError as error:  # The line was written; the next line tries again.
            structlog.get_logger().warning("audit_log_head_not_written", reason=str(error))

    def _siblings(self) -> list[Path]:
        """Return the log and its recently rotated files, the oldest first."""
        found = []
        for path in self.path.parent.glob(f"{glob.escape(self.path.name)}*"):
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
    """Return an event as a line of the log, in ASCII: id, type, time, subject and data."""
    head = {"id": event.id, "type": event.type, "time": event.time, "subject": event.subject}
    return json.dumps({**head, **event.data}).encode("ascii") + b"\n"


def notice_line(notice: Notice) -> bytes:
    """Return the line about a notice: its type, user and audience, but not all details."""
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
    """Remove an incomplete last line. It was not acknowledged, so it will be written again."""
    size = os.fstat(file).st_size
    start = max(0, size - TAIL)
    tail = os.pread(file, size - start, start)
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(file, start + tail.rfind(b"\n") + 1)


def _ids_in(path: Path) -> list[str]:
    with contextlib.suppress(OSError, *DAMAGED):
        return [*filter(None, map(_id_of, read_tail(path)))]
    return []


def _id_of(line: bytes) -> str | None:
    fields = fields_of(line) if line.endswith(b"\n") else None
    return str(fields["id"]) if fields and "id" in fields else None
