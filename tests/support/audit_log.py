"""Helpers for tests of the audit log: lines, file contents, a separate writer, and a small disk."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from canhazgpu.notifiers.audit_log.hash_chain import START, Head, seal
from canhazgpu.notifiers.audit_log.verification import verify
from canhazgpu.notifiers.audit_log.writer import AuditLog

SEALED = len(', "seq": 1, "chain": ""') + 64
WRITER = """\
import os, signal, sys, time
from pathlib import Path
from canhazgpu.notifiers.audit_log.writer import AuditLog
path, first, last, batch, torn = Path(sys.argv[1]), *map(int, sys.argv[2:])
write = os.write
def half(file, line):
    write(file, line[:len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
log = AuditLog(path)
for number in range(first, last):
    if number == torn:
        os.write = half
    name = "%05d" % number
    while True:
        try:
            log.append(name, b'{"id": "%s", "padding": "%s"}\\n' % (name.encode(), b"x" * 300))
            break
        except BlockingIOError:
            time.sleep(0.001)
    if number % batch == batch - 1:
        log.close()
        time.sleep(0.001)
"""


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a log, none if it is not there yet; of the last one, the beginning may be first."""
    text = path.read_bytes() if path.exists() else b""
    return text[: text.rfind(b"\n") + 1].splitlines(keepends=True)


def line(name: str, length: int = 200) -> bytes:
    """Return a line for the id `name`. As one of the first nine lines of a log, it takes `length` bytes."""
    short = json.dumps({"id": name, "padding": ""})
    return json.dumps({"id": name, "padding": "x" * (length - SEALED - len(short) - 1)}).encode() + b"\n"


def chain(length: int, head: Head = START) -> tuple[list[bytes], Head]:
    """Return the lines of a chain, with the ids 1, 2, 3 and so on, and the head of the chain."""
    made = []
    for number in range(1, length + 1):
        sealed, head = seal(b'{"id": "%d"}\n' % number, head)
        made.append(sealed)
    return made, head


def lines(path: Path) -> list[bytes]:
    """Return the lines of a plain or compressed file; fails if the last line has no line feed."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert data.endswith(b"\n") or not data
    return data.splitlines(keepends=True)


def ids(*paths: Path) -> list[str]:
    """Return the ids in these files; fails if a line is not JSON or is incomplete."""
    return [str(json.loads(one)["id"]) for path in paths for one in lines(path)]


def complete_ids(path: Path) -> list[str]:
    """Return the ids in a file that may be written at this moment."""
    return [str(json.loads(one)["id"]) for one in path.read_bytes().split(b"\n")[:-1]]


def size(path: Path) -> int:
    """Return the size of the log and of its rotated files in bytes."""
    return sum(one.stat().st_size for one in path.parent.glob("violations.log*"))


def pack(path: Path) -> Path:
    """Compress a file as gzip does: the plain file is removed after the compressed one is written."""
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def found(path: Path) -> list[tuple[str, str, int, int, int]]:
    """Return the findings of the verification: kind, file, line, first and last sequence number."""
    kept = verify(path).findings.listed
    return [(one.kind, one.file, one.line, one.first_seq, one.last_seq) for one in kept]


def seqs(*paths: Path) -> list[int]:
    """Return the sequence numbers of the lines in these files."""
    return [json.loads(one)["seq"] for path in paths for one in lines(path)]


def write(log: AuditLog, *names: object) -> None:
    """Write a line for each of these ids."""
    for name in names:
        assert log.append(str(name), line(str(name)))


def three_files(path: Path) -> list[Path]:
    """Create a log of fifteen lines in three files of five lines, the oldest compressed; return the files."""
    log, one, two = AuditLog(path), path.with_name("violations.log.1"), path.with_name("violations.log.2")
    write(log, *range(1, 6))
    path.rename(two)
    write(log, *range(6, 11))
    path.rename(one)
    write(log, *range(11, 16))
    log.close()
    return [pack(two), one, path]


def writer(
    path: Path, first: int, last: int, batch: int = 1_000_000, torn: int = -1
) -> "subprocess.Popen[bytes]":
    """Start a process that writes ids, closes the log after each batch, and dies while it writes `torn`."""
    words = [sys.executable, "-c", WRITER, str(path), *map(str, (first, last, batch, torn))]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL)


class Disk:
    """A file system of two pages, which a test can fill: one for the log, and one for the chain head."""

    SIZE = 8192

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mount(f"size={self.SIZE}")

    def fill(self) -> Path:
        """Fill the file system, and return the file that fills it."""
        filler = self.folder / "filler"
        filler.write_bytes(b"x" * self.SIZE)
        return filler

    def grow(self) -> None:
        """Enlarge the file system."""
        self._mount("remount,size=256k")

    def _mount(self, options: str) -> None:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)],
            check=False,
            capture_output=True,
        )
        if made.returncode:
            pytest.skip("mounting a small disk needs root and CAP_SYS_ADMIN")


def mounted(place: Path) -> Iterator[Disk]:
    """Mount a small disk at `place`, for a fixture."""
    place.mkdir()
    yield Disk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)
