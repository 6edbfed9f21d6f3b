"""The audit log on a full disk, with logrotate, kills and several writers: each id is one line."""

import contextlib
import gzip
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.audit_log import Disk, complete_ids, ids, line, mounted, pack, size, writer
from support.daemon import Daemon, gpu, until, use

from canhazgpu.notifiers.audit_log.verification import verify
from canhazgpu.notifiers.audit_log.writer import AuditLog
from canhazgpu.notifiers.messages.sample_notices import samples
from canhazgpu.workers.audit import LogChannel

ENDLESS = 10_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The log's path; there is no file yet."""
    return tmp_path / "violations.log"


@pytest.fixture
def log(path: Path) -> Iterator[AuditLog]:
    """The log."""
    made = AuditLog(path)
    yield made
    made.close()


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    """A disk with space for 4096 bytes of the log."""
    yield from mounted(folder / "disk")


@pytest.mark.anyio
async def test_a_notice_that_cannot_be_written_is_tried_again(log: AuditLog, path: Path) -> None:
    """A notice that cannot be written is retried until it is in the log."""
    channel, notice = LogChannel(log), samples()[0].notice
    await anyio.Path(path).mkdir()
    assert [one.verdict for one in await channel.deliver(notice, [str(path)], None)] == ["retry"]
    await anyio.Path(path).rmdir()
    assert [one.verdict for one in await channel.deliver(notice, [str(path)], None)] == ["delivered"]
    assert ids(path) == [notice.notice]


def test_a_full_disk_leaves_nothing_of_the_line(disk: Disk) -> None:
    """A line that fits only in part is removed, and written once there is space."""
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
    assert verify(path).findings.listed == []


def test_a_disk_full_from_the_start_is_waited_for(disk: Disk) -> None:
    """On a full disk the file stays empty; the first line is written once there is space."""
    filler = disk.fill()
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
    """Facts from the time of a full disk are logged in their order once there is space."""
    path = disk.folder / "violations.log"
    disk.fill()
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
        facts = [fields[b"id"].decode() for _, fields in daemon.redis().xrange(stream)]
        until(lambda: [one for one in complete_ids(path) if one in facts] == facts, 20)  # Between notices.
        assert verify(path).findings.listed == []
    finally:
        assert daemon.stop() == 0


@pytest.mark.parametrize("create", [True, False])
def test_a_rename_between_two_lines(log: AuditLog, path: Path, *, create: bool) -> None:
    """After a rotation by logrotate, the next line is in the new file."""
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
    """An unacknowledged id is one line over all files, also after a restart."""
    old = path.with_name("violations.log.1")
    log = AuditLog(path)
    try:
        assert log.append("a", line("a"))
        path.rename(old)
        if packed:
            old = pack(old)
        if restart:
            log.close()
            log = AuditLog(path)
        assert not log.append("a", line("a"))
        assert log.append("b", line("b"))
        assert ids(old, path) == ["a", "b"]
    finally:
        log.close()


def test_a_damaged_rotated_file_does_not_stop_the_log(path: Path, log: AuditLog) -> None:
    """A damaged compressed file is skipped, and the line is written."""
    packed = bytearray(gzip.compress(b"".join(line(str(n), 160 + n % 50) for n in range(2000))))
    packed[200:2200] = random.Random(1).randbytes(2000)
    path.with_name("violations.log.1.gz").write_bytes(packed)
    assert log.append("a", line("a"))
    assert ids(path) == ["a"]


@pytest.mark.parametrize(
    "harm", [b'{"id": "\xff"}\n', b"[" * 100_000 + b"\n", b'[1]\n{"id": 9' + b"9" * 5000 + b"}\n"]
)
def test_hostile_bytes_in_a_rotated_file_do_not_stop_the_log(path: Path, log: AuditLog, harm: bytes) -> None:
    """Lines that are not of a log are skipped."""
    path.with_name("violations.log.1").write_bytes(harm + line("a"))
    assert not log.append("a", line("a"))
    assert log.append("b", line("b"))


def test_half_a_line_of_a_killed_writer_is_cut_off(path: Path, log: AuditLog) -> None:
    """After a writer was killed within a line, the next one starts on a new line."""
    assert writer(path, 0, 10, torn=6).wait(120) == -signal.SIGKILL
    assert not path.read_bytes().endswith(b"\n")
    assert log.append("00006", line("00006"))
    assert ids(path) == [f"{number:05}" for number in range(7)]


def test_half_a_line_that_was_rotated_away_is_whole_in_the_new_file(path: Path, log: AuditLog) -> None:
    """A line that was torn and rotated away is written again."""
    assert writer(path, 0, 4, torn=3).wait(120) == -signal.SIGKILL
    path.rename(path.with_name("violations.log.1"))
    assert not log.append("00002", line("00002"))
    assert log.append("00003", line("00003"))
    assert ids(path) == ["00003"]


def test_kill_9_at_any_moment_loses_and_doubles_nothing(path: Path) -> None:
    """After repeated kills, each id is one line, in order, over all files."""
    chance, ends = random.Random(int(os.environ.get("LOG_SEED", "20261124"))), []
    for turn in range(8):
        before = size(path)
        process = writer(path, 0, ENDLESS)
        until(lambda: size(path) > before, 60)  # noqa: B023 - over within the turn
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.02))
        process.kill()
        ends.append(process.wait())
        if turn == 2:
            path.rename(path.with_name("violations.log.1"))
    assert ends == [-signal.SIGKILL] * 8
    last = verify(path).lines + 10
    assert writer(path, 0, last).wait(120) == 0
    assert ids(path.with_name("violations.log.1"), path) == [f"{number:05}" for number in range(last)]
    assert verify(path).findings.listed == []


def test_writers_at_once_lose_and_double_nothing(path: Path) -> None:
    """Two writers with overlapping ids take turns; each line is complete, each id once."""
    all_three = [writer(path, 0, 300, 3), writer(path, 0, 300, 4), writer(path, 300, 400, 5)]
    assert [process.wait(120) for process in all_three] == [0, 0, 0]
    assert Counter(ids(path)) == {f"{number:05}": 1 for number in range(400)}
    assert verify(path).findings.listed == []


def test_a_second_writer_is_refused_while_one_writes(log: AuditLog, path: Path) -> None:
    """A second writer gets an error while the log is locked, and writes nothing."""
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
    """At a start, a fact that is already logged stays one line."""
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
