"""The backup file format: one file with a host's Redis data, which is either complete or rejected.

It has a header line and length-prefixed records. The last record has the number of records and the SHA-256 of
everything before it. The file gets its name only after all of it is on disk.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

MAGIC = b"canhazgpu backup 1\n"
LONGEST = 1 << 30  # Maximum length of a record in bytes, twice the maximum of a Redis value.
_LENGTH = struct.Struct(">Q")


class BadBackup(Exception):
    """A file is not a valid backup; the message says why."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The host of the data, the time of the copy (RFC 3339), and the version of the server."""

    host: str
    at: str
    server: str


class Key(msgspec.Struct, frozen=True, kw_only=True, tag="key"):
    """A key without the host's prefix, as returned by DUMP; `expires_ms` is its TTL, 0 for none."""

    name: str
    expires_ms: int
    value: bytes


class Tail(msgspec.Struct, frozen=True, kw_only=True, tag="tail"):
    """Entries that were added to a stream after it was copied."""

    name: str
    entries: list[tuple[bytes, list[bytes]]]


class Group(msgspec.Struct, frozen=True, kw_only=True, tag="group"):
    """The position of a consumer group; `pending` has the pending ids and their consumers."""

    name: str
    group: bytes
    last: bytes
    pending: list[tuple[bytes, bytes]]


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The end: the number of records, and the hash of everything before it."""

    records: int
    sha256: bytes


Record = Key | Tail | Group
_DECODER: "msgspec.msgpack.Decoder[Key | Tail | Group | End]" = msgspec.msgpack.Decoder(
    Key | Tail | Group | End
)


class Writer:
    """Writes a backup to a temporary file. `finish` renames it; without that, nothing remains."""

    def __init__(self, path: Path, head: Head) -> None:
        """Create the temporary file. Raises OSError."""
        self._path, self._new = path, path.with_name(f".{path.name}.{os.getpid()}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file: BinaryIO = os.fdopen(os.open(self._new, flags, 0o600), "wb")
        self._hash = hashlib.sha256()
        self._records = 0
        self._put(MAGIC)
        self._frame(msgspec.msgpack.encode(head))

    def __enter__(self) -> Self:
        """Write in this block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary file if it is not finished."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._new.unlink(missing_ok=True)

    def write(self, record: Record) -> None:
        """Add a record. Raises OSError."""
        self._frame(msgspec.msgpack.encode(record))
        self._records += 1

    def finish(self) -> int:
        """Sync the file, give it its name, and return its size. Raises OSError."""
        self._frame(msgspec.msgpack.encode(End(records=self._records, sha256=self._hash.digest())))
        size = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    def _frame(self, text: bytes) -> None:
        self._put(_LENGTH.pack(len(text)))
        self._put(text)

    def _put(self, text: bytes) -> None:
        self._file.write(text)
        self._hash.update(text)


def read_head(path: Path) -> Head:
    """Return the head of a backup. Raises BadBackup or OSError."""
    with _opened(path) as file:
        return _head(file, hashlib.sha256())


def records(path: Path) -> Iterator[Record]:
    """Yield the records of a backup, then verify the file. Raises BadBackup or OSError."""
    digest, count = hashlib.sha256(), 0
    with _opened(path) as file:
        _head(file, digest)
        while True:
            before = digest.digest()
            record = _decoded(_framed(file, digest))
            if isinstance(record, End):
                if record.sha256 != before or record.records != count or file.read(1):
                    raise BadBackup("the file was changed after it was written")
                return
            count += 1
            yield record


def _opened(path: Path) -> BinaryIO:
    """Open a backup. A pipe is refused: it would be waited for, and a backup is read twice."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise BadBackup("not a regular file")
    return os.fdopen(file, "rb")


def _head(file: BinaryIO, digest: Any) -> Head:
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise BadBackup("not a canhazgpu backup, or one of an unsupported version")
    digest.update(magic)
    try:
        return msgspec.msgpack.decode(_framed(file, digest), type=Head)
    except msgspec.DecodeError:
        raise BadBackup("the file was changed after it was written") from None


def _framed(file: BinaryIO, digest: Any) -> bytes:
    length = file.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        raise BadBackup("the file is truncated")
    (size,) = _LENGTH.unpack(length)
    if size > LONGEST:
        raise BadBackup("the file was changed after it was written")
    text = file.read(size)
    if len(text) < size:
        raise BadBackup("the file is truncated")
    digest.update(length)
    digest.update(text)
    return text


def _decoded(text: bytes) -> Record | End:
    try:
        return _DECODER.decode(text)
    except msgspec.DecodeError:
        raise BadBackup("the file was changed after it was written") from None
