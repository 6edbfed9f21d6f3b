"""The files of one log, the log itself and its rotated files, read as one stream, the oldest first.

Rotated files have the log's name followed by a number or a date, and may be compressed. This only reads.
"""

import contextlib
import errno
import gzip
import os
import re
import stat
import statistics
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from itertools import islice
from pathlib import Path

from canhazgpu.notifiers.audit_log.hash_chain import LONGEST, Head, Link, link_of

TAIL = 4 * 1024 * 1024  # Bytes to read at the end of a plain file: more than can be unacknowledged.
TRIES = 20
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_PACKED = re.compile(r"\.(gz|xz|bz2|zst|lz4|lzma|Z)$")
_ROTATED = re.compile(r"[.-][0-9][0-9._-]*(\.(gz|xz|bz2|zst|lz4|lzma|Z))?")


def files_of(log: Path) -> dict[Path, int]:
    """Return the files of the log with their inodes. Raises OSError if they cannot be listed.

    A compressed file is left out if the plain one still exists, because it is not complete yet.
    """
    found: dict[str, int] = {}
    with os.scandir(log.parent) as entries:
        for entry in entries:
            if _belongs(entry.name, log.name):
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat(follow_symlinks=False).st_ino
    twice = {name for name in found if name != log.name and _PACKED.sub("", name) in found.keys() - {name}}
    return {log.with_name(name): found[name] for name in sorted(found.keys() - twice)}


def _belongs(name: str, log: str) -> bool:
    return name == log or (name.startswith(log) and bool(_ROTATED.fullmatch(name, len(log))))


def rotated_from(path: Path) -> Path | None:
    """Return the log that `path` was rotated from, judged by its name, or None."""
    base = re.sub(rf"{_ROTATED.pattern}$", "", path.name)
    return path.with_name(base) if base not in ("", path.name) else None


def can_be_read(path: Path) -> bool:
    """Return whether a file of the log is plain or compressed, judged by its name."""
    return path.suffix == ".gz" or not _PACKED.search(path.name)


@contextlib.contextmanager
def open_log_file(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file of the log for reading, decompressed. Raises OSError if it is not a regular file."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    with os.fdopen(file, "rb") as plain:
        if path.suffix != ".gz":
            yield plain
            return
        with gzip.GzipFile(fileobj=plain) as packed:
            yield packed


@contextlib.contextmanager
def open_all_files(log: Path) -> Iterator[list[tuple[Path, BufferedIOBase]]]:
    """Open all files of the log consistently, even if it is rotated in the meantime."""
    for _ in range(TRIES):
        with contextlib.ExitStack() as stack:
            files = files_of(log)
            try:
                parts = [(path, stack.enter_context(open_log_file(path))) for path in files]
            except FileNotFoundError:
                continue
            seen = {path: os.fstat(stream.fileno()).st_ino for path, stream in parts}
            if seen == files == files_of(log):
                yield parts
                return
    raise OSError(errno.EBUSY, "It is being rotated too often", str(log))


def read_lines(stream: BufferedIOBase) -> Iterator[bytes]:
    """Yield each line with its line feed; the last one may lack it if its writer died.

    A line that is too long is cut, to a length that is still more than LONGEST.
    """
    while line := stream.readline(LONGEST + 1):
        if len(line) > LONGEST and not line.endswith(b"\n"):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(LONGEST)
            line += rest[-1:]
        yield line


def in_order(parts: list[tuple[Path, BufferedIOBase]], log: Path) -> list[tuple[Path, BufferedIOBase]]:
    """Return opened files in the order of their chain, the log itself last, each at its start."""

    def place(part: tuple[Path, BufferedIOBase]) -> tuple[bool, int, float, str]:
        path, stream = part
        return path == log, _begins_at(stream), os.fstat(stream.fileno()).st_mtime, path.name

    return sorted(parts, key=place)


def _begins_at(stream: BufferedIOBase) -> int:
    """Return the approximate first number of a file, robust against an edited line; 0 without a chain."""
    found: list[int] = []
    with contextlib.suppress(*DAMAGED):
        found += (link.seq for link in islice(_links_of(stream), 3))
    stream.seek(0)
    return statistics.median_low(found) if found else 0


def _links_of(stream: BufferedIOBase) -> Iterator[Link]:
    return filter(None, map(link_of, read_lines(stream)))


def last_head(log: Path) -> Head | None:
    """Return the end of the chain in the files: in the log, or else in the newest rotated file."""
    head = _head_in(log)
    if head:
        return head
    begins: dict[Path, int] = {}
    for path in files_of(log):
        with contextlib.suppress(OSError), open_log_file(path) as stream:
            begins[path] = _begins_at(stream)
    newest = max(begins, key=lambda path: begins[path], default=None)
    return _head_in(newest) if newest else None


def _head_in(path: Path) -> Head | None:
    last: Link | None = None
    with contextlib.suppress(OSError, *DAMAGED):
        for link in filter(None, map(link_of, read_tail(path))):
            last = link
    return last.head if last else None


def read_tail(path: Path) -> Iterator[bytes]:
    """Yield the lines at the end of a file, or all of a compressed one; the first may be incomplete."""
    with open_log_file(path) as stream:
        if path.suffix != ".gz":
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
        yield from read_lines(stream)
