"""The chain of the audit log survives rotation, restarts, kills, full disks and upgrades."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import pytest
from support.audit_log import Disk, found, ids, line, mounted, pack, seqs, three_files, write, writer
from support.daemon import until

from canhazgpu.notifiers.audit_log import rotation
from canhazgpu.notifiers.audit_log.chain_head import chain_head_path, read_chain_head
from canhazgpu.notifiers.audit_log.hash_chain import START, Head
from canhazgpu.notifiers.audit_log.verification import verify
from canhazgpu.notifiers.audit_log.writer import AuditLog

ENDLESS = 10_000_000
ROUNDS = int(os.environ.get("LOG_KILLS", "50"))


def write_until_killed(path: Path, last: int, seed: int) -> None:
    """Write the log like the service does, and end with signal 9 at one of its system calls."""
    chance = random.Random(seed)
    left = chance.randrange(1, 40)
    write = os.write

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(first: Any, *others: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                if call is write and chance.random() < 0.5:
                    write(first, others[0][: chance.randrange(len(others[0]))])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(first, *others)

        return called

    for name in ("write", "fsync", "open", "replace", "ftruncate", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    log = AuditLog(path)
    for number in range(last):
        log.append(f"{number:05}", b'{"id": "%05d"}\n' % number)


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


@pytest.fixture
def three(path: Path) -> list[Path]:
    """Write a log of three files with five lines each: compressed, plain, current."""
    return three_files(path)


@pytest.mark.parametrize("packed", [True, False])
def test_the_chain_goes_on_from_an_old_file_alone(three: list[Path], log: AuditLog, *, packed: bool) -> None:
    """Without log and head file, the chain continues from the newest rotated file."""
    three[2].unlink()
    chain_head_path(three[2]).unlink()
    last = pack(three[1]) if packed else three[1]
    os.utime(last, (time.time() - 400 * 86400,) * 2)
    write(log, "next")
    assert seqs(three[2]) == [11]
    assert found(three[2]) == []


@pytest.mark.parametrize("harm", [b"", b"\xff" * 99, b'{"seq": "many"}'])
def test_a_spoilt_head_and_a_folder_in_the_way_do_not_stop_the_log(
    three: list[Path], log: AuditLog, harm: bytes
) -> None:
    """If the head file is not readable, the chain continues from the files."""
    chain_head_path(three[2]).write_bytes(harm)
    three[2].unlink()
    three[2].with_name("violations.log.7").mkdir()
    write(log, "next")
    assert seqs(three[2]) == [11]


def test_lines_from_before_the_chain_are_counted_and_only_at_the_beginning(path: Path, log: AuditLog) -> None:
    """A log from before the chain continues with seq 1; a later line without it is a finding."""
    path.write_bytes(line("old 1") + line("old 2"))
    assert not log.append("old 1", line("old 1"))
    write(log, "new 1", "new 2")
    proof = verify(path)
    assert (proof.findings.listed, proof.before, proof.lines, proof.first) == ([], 2, 4, 1)
    with path.open("ab") as file:
        file.write(line("forged"))
    assert found(path) == [("unsealed", "violations.log", 5, 0, 0)]


@pytest.mark.slow(20)
@pytest.mark.timeout(400)
def test_kill_9_at_any_instant_breaks_no_chain(path: Path) -> None:
    """After a kill at any point of a write, the chain continues and each id is logged once."""
    seed = int(os.environ.get("LOG_SEED", "20261125"))
    chance, last, behind, between = random.Random(seed), 12 * ROUNDS, 0, 0
    for turn in range(ROUNDS):
        pid = os.fork()
        if pid == 0:
            try:
                write_until_killed(path, last, seed + turn)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        if not path.exists():
            continue
        proof = verify(path)
        assert proof.findings.listed == []
        behind = (proof.head.seq if proof.head else 0) - (proof.anchor.seq if proof.anchor else 0)
        assert behind in (0, 1)
        between += behind
        if chance.random() < 0.3:
            path.rename(path.with_name(f"violations.log.{ROUNDS - turn}"))
    assert between > ROUNDS / 20, "it was killed too rarely between line and head"
    assert writer(path, 0, last).wait(120) == 0
    parts = sorted(path.parent.glob("violations.log.*"), key=lambda part: -int(part.suffix[1:]))
    whole = [one for part in (*parts, path) for one in part.read_bytes().split(b"\n") if one.endswith(b"}")]
    assert [json.loads(one)["id"] for one in whole] == [f"{number:05}" for number in range(last)]
    assert [json.loads(one)["seq"] for one in whole] == [*range(1, last + 1)]
    assert found(path) == []


def test_rotation_while_it_is_written_breaks_no_chain(path: Path) -> None:
    """While a writer works, files are renamed and compressed, and each check finds a complete chain."""
    process = writer(path, 0, ENDLESS)
    try:
        for _ in range(5):
            until(lambda: path.exists() and path.stat().st_size > 30_000, 60)
            rotate(path)
            assert found(path) == []
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    last = verify(path).lines + 10
    assert writer(path, 0, last).wait(120) == 0
    proof = verify(path)
    assert (proof.findings.listed, proof.lines, proof.first) == ([], last, 1)
    assert proof.head == kept_head(path)


def kept_head(path: Path) -> Head | None:
    """Return the head file of a log."""
    anchor = read_chain_head(path)
    return anchor.head if anchor else None


def rotate(path: Path) -> None:
    """Rotate like logrotate with `delaycompress`."""
    one = path.with_name("violations.log.1")
    for number in range(100, 1, -1):
        old = path.with_name(f"violations.log.{number}.gz")
        if old.exists():
            old.rename(path.with_name(f"violations.log.{number + 1}.gz"))
    if one.exists():
        subprocess.run(["gzip", one], check=True)
        one.with_name(f"{one.name}.gz").rename(path.with_name("violations.log.2.gz"))
    if path.exists():
        path.rename(one)


def test_a_check_reads_the_files_of_one_moment(three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """If a rotation happens while files are opened, they are opened again; no line is missed."""
    two, one, log = three
    spare, elsewhere = one.with_name("violations.log.3"), one.with_name("violations.log.4.gz")
    steps = [
        (log, [(one, spare), (log, one)]),
        (one, [(one, log), (spare, one)]),
        (one, [(two, elsewhere)]),
    ]
    opening = rotation.open_log_file

    @contextlib.contextmanager
    def opened(path: Path) -> Iterator[BufferedIOBase]:
        with opening(path) as stream:
            if steps and path == steps[0][0]:
                for here, there in steps.pop(0)[1]:
                    here.rename(there)
            yield stream

    monkeypatch.setattr(rotation, "open_log_file", opened)
    proof = verify(log)
    assert (proof.findings.listed, proof.lines, steps) == ([], 15, [])


def test_a_full_disk_breaks_no_chain(disk: Disk) -> None:
    """Lines that did not fit on the disk use no number, and the head file catches up later."""
    path = disk.folder / "violations.log"
    log = AuditLog(path)
    try:
        write(log, *range(1, 20))
        with pytest.raises(OSError, match=r"only \d+ of 12"):
            log.append("20", line("20", 1200))
        assert found(path) == []
        assert kept_head(path) == START, "a new head had room; then this proves less than it says"
        disk.grow()
        write(log, 20)
        assert seqs(path) == [*range(1, 21)]
        assert (found(path), kept_head(path)) == ([], verify(path).head)
    finally:
        log.close()


def test_a_line_that_could_not_be_taken_back_is_not_doubled(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If neither fsync nor truncate works, the file is read again, and each line is in the chain once."""
    write(log, 1)
    with monkeypatch.context() as broken:
        for name in ("fsync", "ftruncate"):
            broken.setattr(os, name, _fail)
        with pytest.raises(OSError, match="broken"):
            log.append("2", line("2"))
    assert not log.append("2", line("2"))
    write(log, 3)
    assert (ids(path), found(path)) == (["1", "2", "3"], [])


def _fail(*_: object) -> None:
    raise OSError(5, "the disk is broken")


def test_closing_waits_for_a_line_that_is_being_written(
    path: Path, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another thread closes the log during a write, the line is complete and known."""
    going, go, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(file: int) -> None:
        going.set()
        go.wait(20)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=write, args=(log, "a")), threading.Thread(target=log.close)]
    threads[0].start()
    assert going.wait(20)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    go.set()
    for thread in threads:
        thread.join()
    assert (ids(path), found(path)) == (["a"], [])


def test_threads_that_share_a_log_make_one_chain(path: Path, log: AuditLog) -> None:
    """With four threads and one that closes the log, each line is once in a complete chain."""

    def append(which: int) -> None:
        for number in range(50):
            log.append(f"{which}-{number}", line(f"{which}-{number}"))
            if which == 0:
                log.close()

    threads = [threading.Thread(target=append, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(ids(path)) == {f"{which}-{number}": 1 for which in range(4) for number in range(50)}
    assert seqs(path) == [*range(1, 201)]
    assert (found(path), kept_head(path)) == ([], verify(path).head)
