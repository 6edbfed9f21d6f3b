"""The file of the journal: the last complete line counts, whatever happened to the others."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from canhazgpu.events.reservations import Record
from canhazgpu.service.storage import journal
from canhazgpu.service.storage.journal import Card, Journal, State


def state(number: int, count: int = 1) -> State:
    """Return a state that differs from others."""
    records = {
        f"r{one}": Record(id=f"r{one}", kind="manual", user="bob", uid=1001, gpus=(one,), started_ms=number)
        for one in range(count)
    }
    return State(
        dataset="d", sequence=number, records=records, ended=("r9",), cards={"0": Card(drained="fan")}
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the journal."""
    return tmp_path / "journal"


def test_what_was_written_is_read(path: Path) -> None:
    """A written state is read by the next service; only the file's owner has access."""
    first = Journal(path)
    for number in range(3):
        first.write(state(number))
    assert Journal(path).read() == state(2)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Journal(path.with_name("none")).read() is None


@pytest.mark.parametrize("cut", [2, 5, 40, 200])
def test_half_a_line_does_not_count(path: Path, cut: int) -> None:
    """If the last line is cut anywhere, the line before it counts."""
    kept = Journal(path)
    kept.write(state(1))
    kept.write(state(2))
    os.truncate(path, path.stat().st_size - cut)
    assert Journal(path).read() == state(1)
    later = Journal(path)
    later.write(state(3))
    assert Journal(path).read() == state(3)


def test_garbage_is_passed_over(path: Path) -> None:
    """If lines are damaged or foreign, the last valid line counts."""
    kept = Journal(path)
    kept.write(state(1))
    kept.write(state(2))
    text = bytearray(path.read_bytes())
    text[-20] ^= 1
    path.write_bytes(bytes(text) + b"\x00\x00\xff\nnot a line of it\n")
    assert Journal(path).read() == state(1)
    path.write_bytes(b"\x00" * 5000)
    assert Journal(path).read() is None


def test_a_journal_without_a_state_is_moved_aside(path: Path) -> None:
    """A journal without a valid state is moved aside and reported, and so is the next one."""
    for name in ("journal.broken", "journal.broken-2"):
        path.write_bytes(b"garbage\n")
        damage = Journal(path).keep_damaged()
        assert damage == (
            f"the journal {path} was damaged and contains no readable state: what was only in the "
            f"journal is lost; it was moved to {path.with_name(name)}"
        )
        assert path.with_name(name).read_bytes() == b"garbage\n"
        assert not path.exists()


def test_a_damaged_last_line_is_told_from_a_torn_one(path: Path) -> None:
    """A cut last line was never acknowledged; a complete but damaged last line is reported."""
    kept = Journal(path)
    kept.write(state(1))
    kept.write(state(2))
    text = bytearray(path.read_bytes())
    path.write_bytes(text[:-20])
    assert Journal(path).keep_damaged() is None
    text[-20] ^= 1
    path.write_bytes(text)
    aside = path.with_name("journal.broken")
    assert Journal(path).keep_damaged() == (
        f"the last line of the journal {path} was damaged: the line before it is used, and the last "
        f"change may be lost; a copy is {aside}"
    )
    assert aside.read_bytes() == text
    assert Journal(path).read() == state(1)


@pytest.mark.parametrize("content", [None, b"", b"half a line"])
def test_a_journal_that_was_never_written_is_not_damaged(path: Path, content: bytes | None) -> None:
    """A journal that is absent, or whose first write was cut off, is not damaged."""
    if content is not None:
        path.write_bytes(content)
    assert Journal(path).keep_damaged() is None


def test_it_stays_short(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long file is replaced by its last line, and a reader always finds a complete state."""
    monkeypatch.setattr(journal, "LONGEST", 4000)
    kept, stop = Journal(path), threading.Event()
    kept.write(state(0))
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            found = Journal(path).read()
            seen.append(found.sequence if found else -1)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 200):
        kept.write(state(number, 4))
        assert path.stat().st_size <= 4000
    stop.set()
    reader.join()
    assert -1 not in seen
    assert seen == sorted(seen)


def test_a_file_that_was_removed_is_made_again(path: Path) -> None:
    """If the file was deleted, it is created again at its path."""
    kept = Journal(path)
    kept.write(state(1))
    path.unlink()
    kept.write(state(2))
    assert Journal(path).read() == state(2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """If the disk is full, OSError is raised and the state before is still read; later writes succeed."""
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    path = tmp_path / "journal"
    (tmp_path / "other").write_bytes(b"x" * 30_000)
    kept, written = Journal(path), 0
    try:
        while _written(kept, state(written + 1, 20)):
            written += 1
        assert written > 1
        assert Journal(path).read() == state(written, 20)
        (tmp_path / "other").unlink()
        kept.write(state(written))
        assert Journal(path).read() == state(written)
    finally:
        kept.close()
        subprocess.run(["umount", str(tmp_path)], check=True)


def _written(kept: Journal, what: State) -> bool:
    try:
        kept.write(what)
    except OSError as error:
        assert "No space left" in str(error)  # noqa: PT017 - either may happen
        return False
    return True


@pytest.mark.parametrize("how", ["replaced", "older", "same size", "deleted"])
def test_a_file_that_is_not_the_one_it_wrote_is_noticed(path: Path, how: str) -> None:
    """A file that was replaced or overwritten is noticed, and the next write replaces it."""
    first = Journal(path)
    assert first.replaced() is None  # Nothing was written yet.
    first.write(state(1))
    older = path.read_bytes()
    first.write(state(2))
    assert first.replaced() is None
    match how:
        case "replaced":
            path.with_name("new").write_bytes(path.read_bytes())
            path.with_name("new").rename(path)
        case "older":
            path.write_bytes(older)
        case "same size":
            os.utime(path, (1, 1))
        case "deleted":
            path.unlink()
    assert first.replaced() == path
    first.write(state(2))
    assert first.replaced() is None
    assert Journal(path).read() == state(2)
