"""The audit log on a full disk, under logrotate, under kill -9 and between writers: each id one line."""

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, gpu, until, use

from canhazgpu.notifiers.log import AuditLog

LINES = 3000
WRITER = """\
import contextlib, os, signal, sys, time
from pathlib import Path
from canhazgpu.notifiers.log import AuditLog
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


def line(name: str, length: int = 100) -> bytes:
    """Return a line of `length` bytes for the id `name`."""
    short = json.dumps({"id": name, "padding": ""})
    return json.dumps({"id": name, "padding": "x" * (length - len(short) - 1)}).encode() + b"\n"


def ids(*paths: Path) -> list[str]:
    """Return the ids in these files; fails on any line that is not JSON, or not ended."""
    found = []
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert data.endswith(b"\n") or not data
        found += [str(json.loads(one)["id"]) for one in data.splitlines()]
    return found


def writer(
    path: Path, first: int, last: int, batch: int = LINES * 9, torn: int = -1
) -> "subprocess.Popen[bytes]":
    """Start a process that writes ids, lets go of the log after each batch, and dies within `torn`."""
    words = [sys.executable, "-c", WRITER, str(path), *map(str, (first, last, batch, torn))]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The log's name; there is no file yet."""
    return tmp_path / "violations.log"


@pytest.fixture
def log(path: Path) -> Iterator[AuditLog]:
    """The log."""
    made = AuditLog(path)
    yield made
    made.close()


class Disk:
    """A file system of one page, so that it can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mount("size=4k")

    def grow(self) -> None:
        """Make room."""
        self._mount("remount,size=256k")

    def _mount(self, options: str) -> None:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)],
            check=False,
            capture_output=True,
        )
        if made.returncode:
            pytest.skip("mounting a small disk needs root and CAP_SYS_ADMIN")


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    """A disk of 4096 bytes."""
    place = folder / "disk"
    place.mkdir()
    yield Disk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_leaves_nothing_of_the_line(disk: Disk) -> None:
    """A line that fits in part is taken back whole; with room again it is written, once."""
    path = disk.folder / "violations.log"
    log = AuditLog(path)
    try:
        for number in range(3):
            assert log.append(str(number), line(str(number), 1200))
        for _ in range(3):
            with pytest.raises(OSError, match=r"only 496 of 1200|No space left"):
                log.append("3", line("3", 1200))
            assert ids(path) == ["0", "1", "2"]
        assert log.append("4", line("4", 496)), "what fits is still taken"
        with pytest.raises(OSError, match="No space left"):
            log.append("3", line("3", 1200))
        disk.grow()
        assert [log.append("3", line("3", 1200)) for _ in range(2)] == [True, False]
    finally:
        log.close()
    assert ids(path) == ["0", "1", "2", "4", "3"]


def test_a_disk_full_from_the_start_is_waited_for(disk: Disk) -> None:
    """With no byte free the file stays empty, and the first byte of room is used at once."""
    filler = disk.folder / "filler"
    filler.write_bytes(b"x" * 4096)
    log = AuditLog(disk.folder / "violations.log")
    try:
        with pytest.raises(OSError, match="No space left"):
            log.append("a", line("a"))
        filler.unlink()
        assert log.append("a", line("a"))
    finally:
        log.close()
    assert ids(disk.folder / "violations.log") == ["a"]


def test_the_service_waits_for_the_disk_and_skips_no_fact(folder: Path, disk: Disk) -> None:
    """Facts found while the disk is full are all in the log when there is room, in their order."""
    path = disk.folder / "violations.log"
    (disk.folder / "filler").write_bytes(b"x" * 4096)
    daemon = Daemon(folder)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace(str(folder / "violations.log"), str(path)))
    daemon.start()
    try:
        daemon.place(gpu(0, use(9_000_001, 900, "bob", "python3")), gpu(1))
        until(lambda: "audit_log_not_written" in daemon.log.read_text())
        daemon.place(gpu(0), gpu(1, use(9_000_002, 900, "carol", "python3")))
        stream = "canhazgpu:{testhost}:violations"
        until(lambda: daemon.redis().xlen(stream) >= 3)
        assert ids(path) == []
        disk.grow()
        until(lambda: len(ids(path)) >= 3, 15)
        facts = [fields[b"id"].decode() for _, fields in daemon.redis().xrange(stream)]
        until(lambda: ids(path) == facts)
    finally:
        assert daemon.stop() == 0


@pytest.mark.parametrize("create", [True, False])
def test_a_rename_between_two_lines(log: AuditLog, path: Path, *, create: bool) -> None:
    """After logrotate's rename, with `create` or without, the next line is in the file of the name."""
    old = path.with_name("violations.log.1")
    assert log.append("a", line("a"))
    path.rename(old)
    if create:
        path.touch(0o640)
    assert log.append("b", line("b"))
    assert (ids(old), ids(path)) == (["a"], ["b"])


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_line_that_was_rotated_away_is_not_written_again(
    path: Path, *, restart: bool, packed: bool
) -> None:
    """An id written and never acknowledged stays one line over all files, by memory or by reading them."""
    old = path.with_name("violations.log.1")
    log = AuditLog(path)
    try:
        assert log.append("a", line("a"))
        path.rename(old)
        if packed:
            plain, old = old, path.with_name("violations.log.1.gz")
            old.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        if restart:
            log.close()
            log = AuditLog(path)
        assert not log.append("a", line("a"))
        assert log.append("b", line("b"))
        assert ids(old, path) == ["a", "b"]
    finally:
        log.close()


def test_a_damaged_rotated_file_does_not_stop_the_log(path: Path, log: AuditLog) -> None:
    """A packed sibling with garbage in its middle is passed over: the line is written."""
    packed = bytearray(gzip.compress(b"".join(line(str(n), 60 + n % 50) for n in range(2000))))
    packed[200:2200] = random.Random(1).randbytes(2000)
    path.with_name("violations.log.1.gz").write_bytes(packed)
    assert log.append("a", line("a"))
    assert ids(path) == ["a"]


def test_half_a_line_of_a_killed_writer_is_cut_off(path: Path, log: AuditLog) -> None:
    """A writer dies by kill -9 with half a line written; the next one starts on a clean line."""
    assert writer(path, 0, 10, torn=6).wait(20) == -signal.SIGKILL
    assert not path.read_bytes().endswith(b"\n")
    assert log.append("00006", line("00006"))
    assert ids(path) == [f"{number:05}" for number in range(7)]


def test_half_a_line_that_was_rotated_away_is_whole_in_the_new_file(path: Path, log: AuditLog) -> None:
    """What a killed writer left torn, and logrotate moved away, is written again, whole."""
    assert writer(path, 0, 4, torn=3).wait(20) == -signal.SIGKILL
    path.rename(path.with_name("violations.log.1"))
    assert not log.append("00002", line("00002"))
    assert log.append("00003", line("00003"))
    assert ids(path) == ["00003"]


def test_kill_9_at_any_moment_loses_and_doubles_nothing(path: Path) -> None:
    """A writer that begins anew after each kill ends with each id once, in order, over all files."""
    chance, ends = random.Random(int(os.environ.get("LOG_SEED", "20261124"))), []
    for turn in range(8):
        process = writer(path, 0, LINES)
        before = size(path)
        until(lambda: process.poll() is not None or size(path) > before)  # noqa: B023 - over within the turn
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.02))
        process.kill()
        ends.append(process.wait())
        if turn == 2:
            path.rename(path.with_name("violations.log.1"))
    assert ends.count(-signal.SIGKILL) >= 3, "it was killed too rarely to prove anything"
    assert writer(path, 0, LINES).wait(20) == 0
    assert ids(path.with_name("violations.log.1"), path) == [f"{number:05}" for number in range(LINES)]


def size(path: Path) -> int:
    """Return the bytes in the log and in what it was rotated to."""
    return sum(one.stat().st_size for one in path.parent.glob("violations.log*"))


def test_writers_at_once_lose_and_double_nothing(path: Path) -> None:
    """Two processes that write the same, and one more, take turns: each line is whole, each id once."""
    all_three = [writer(path, 0, 300, 3), writer(path, 0, 300, 4), writer(path, 300, 400, 5)]
    assert [process.wait(60) for process in all_three] == [0, 0, 0]
    assert Counter(ids(path)) == {f"{number:05}": 1 for number in range(400)}


def test_a_second_writer_is_refused_while_one_writes(log: AuditLog, path: Path) -> None:
    """Who holds the log keeps it; another gets an error that says so, and writes nothing."""
    assert log.append("a", line("a"))
    other = AuditLog(path)
    with pytest.raises(BlockingIOError, match="another process writes this log"):
        other.append("b", line("b"))
    assert ids(path) == ["a"]
    log.close()
    assert other.append("b", line("b"))
    other.close()
    assert ids(path) == ["a", "b"]


def test_the_two_workers_that_share_the_log_do_not_double_a_line(path: Path) -> None:
    """At a start, a test of the log and a fact that is there already, at once: the fact stays one line."""
    lines = b"".join(line(f"{number:05}") for number in range(30_000))
    for number in range(1, 8):  # So long to read that the second worker comes meanwhile.
        path.with_name(f"violations.log.{number}").write_bytes(lines)
    path.write_bytes(line("fact"))
    log = AuditLog(path)
    answers: dict[str, bool] = {}

    def append(name: str) -> None:
        answers[name] = log.append(name, line(name))

    threads = [threading.Thread(target=append, args=(name,)) for name in ("test", "fact")]
    for thread in threads:
        thread.start()
        until(lambda: log._lock is not None)  # noqa: SLF001 - the moment that matters
    for thread in threads:
        thread.join()
    log.close()
    assert (answers, ids(path)) == ({"test": True, "fact": False}, ["fact", "test"])
