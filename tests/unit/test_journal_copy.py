"""The copy of the journal: which of the two counts, and whose copy is trusted."""

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from canhazgpu.service.storage.journal import Journal, State, line_of
from canhazgpu.service.storage.journal_copy import CopiedJournal, JournalCopy
from canhazgpu.service.storage.machine_id import this_boot


def journal(folder: Path, boot: str = "machine boot") -> CopiedJournal:
    """A journal and its copy, as a service opens them."""
    return CopiedJournal(folder / "journal", JournalCopy(folder / "s.journal", boot))


def state(sequence: int, dataset: str = "d") -> State:
    """A state that tells itself from others."""
    return State(dataset=dataset, sequence=sequence)


def test_both_have_what_was_written(tmp_path: Path) -> None:
    """The copy is of the same line, only its user may look into it, and nobody says anything at a start."""
    first = journal(tmp_path)
    for number in range(3):
        first.write(state(number))
    copy = tmp_path / "s.journal"
    assert copy.read_bytes() == b"machine boot\n" + line_of(state(2))
    assert copy.stat().st_mode & 0o7777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "s.journal"]
    with capture_logs() as logs:
        again = journal(tmp_path)
        assert again.read() == state(2)
    assert (again.rolled_back, logs) == (None, [])


@pytest.mark.parametrize(
    ("kept", "copied", "counts"),
    [
        (state(5), state(7), "copy"),
        (state(7), state(7), "journal"),
        (state(9), state(7), "journal"),
        (state(9, "other"), state(7), "copy"),
        (None, state(7), "copy"),
        (state(5), None, "journal"),
        (None, None, "none"),
    ],
)
def test_the_later_counts(tmp_path: Path, kept: State | None, copied: State | None, counts: str) -> None:
    """The copy does if the journal is gone, older, or of other data; then it is said."""
    if copied:
        journal(tmp_path).write(copied)
        (tmp_path / "journal").unlink()
    if kept:
        Journal(tmp_path / "journal").write(kept)
    found = journal(tmp_path)
    assert found.read() == {"copy": copied, "journal": kept, "none": None}[counts]
    assert bool(found.rolled_back) is (counts == "copy")
    assert found.restorable() is (counts != "none")


def test_a_journal_that_cannot_be_read_is_replaced_by_the_copy(tmp_path: Path) -> None:
    """Without a copy the error is raised."""
    journal(tmp_path).write(state(7))
    (tmp_path / "journal").unlink()
    (tmp_path / "journal").mkdir()
    assert journal(tmp_path).read() == state(7)
    (tmp_path / "s.journal").unlink()
    with pytest.raises(IsADirectoryError):
        journal(tmp_path).read()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("boot", "another boot"),
        ("group", "mode 0640"),
        ("others", "mode 0602"),
        ("link", "symbolic links"),
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("damage", "damaged"),
        ("empty", "another boot"),
    ],
)
def test_a_copy_that_proves_nothing_is_ignored(tmp_path: Path, fault: str, reason: str) -> None:
    """One line of the log says why, and the next write replaces whatever is there."""
    journal(tmp_path).write(state(7))
    (tmp_path / "journal").unlink()
    copy = tmp_path / "s.journal"
    match fault:
        case "group":
            copy.chmod(0o640)
        case "others":
            copy.chmod(0o602)
        case "link":
            copy.rename(tmp_path / "elsewhere")
            copy.symlink_to(tmp_path / "elsewhere")
        case "folder":
            copy.unlink()
            copy.mkdir()
        case "pipe":
            copy.unlink()
            os.mkfifo(copy, 0o600)
        case "damage":
            copy.write_bytes(copy.read_bytes().replace(b"7", b"8"))
        case "empty":
            copy.write_bytes(b"")
    with capture_logs() as logs:
        found = journal(tmp_path, "machine other" if fault == "boot" else "machine boot")
        assert found.read() is None
        assert found.read() is None
    assert [line["event"] for line in logs] == ["journal_copy_ignored"]
    assert reason in logs[0]["reason"]
    if fault == "folder":
        return
    found.write(state(8))
    assert copy.is_file()
    assert not copy.is_symlink()
    assert copy.stat().st_mode & 0o7777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_copy_of_another_user_is_ignored(tmp_path: Path) -> None:
    """Anybody could have put it there."""
    journal(tmp_path).write(state(7))
    (tmp_path / "journal").unlink()
    os.chown(tmp_path / "s.journal", 65534, -1)
    with capture_logs() as logs:
        assert journal(tmp_path).read() is None
    assert "belongs to uid 65534" in logs[0]["reason"]


def test_a_copy_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """The journal is written, the weakness is said once, and is over when a write succeeds."""
    kept, copy = journal(tmp_path), tmp_path / "s.journal"
    copy.mkdir()
    with capture_logs() as logs:
        for number in range(3):
            kept.write(state(number))
            assert kept.is_in_place()
    assert Journal(tmp_path / "journal").read() == state(2)
    assert [line["event"] for line in logs] == ["journal_copy_failed"]
    assert str(copy) in (kept.weakness or "")
    copy.rmdir()
    kept.write(state(3))
    assert kept.weakness is None


def test_the_copy_is_written_where_the_journal_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, but the runtime directory is in memory: the next start knows more."""
    kept = journal(tmp_path)
    kept.write(state(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="No space"):
            kept.write(state(2))
    assert journal(tmp_path).read() == state(2)


@pytest.mark.parametrize("how", ["deleted", "older", "mode"])
def test_a_copy_that_was_replaced_is_noticed(tmp_path: Path, how: str) -> None:
    """As the journal's own file is, and the next write replaces it."""
    kept, copy = journal(tmp_path), tmp_path / "s.journal"
    assert kept.replaced() is None
    kept.write(state(1))
    older = copy.read_bytes()
    kept.write(state(2))
    assert kept.replaced() is None
    match how:
        case "deleted":
            copy.unlink()
        case "older":
            copy.write_bytes(older)
        case "mode":
            copy.chmod(0o644)
    assert kept.replaced() == copy
    assert not kept.is_in_place()
    kept.write(state(2))
    assert kept.replaced() is None


def test_a_boot_is_the_same_for_every_process() -> None:
    """It names the machine and the boot, on one line."""
    assert this_boot() == this_boot()
    assert len(this_boot().split()) == len(["machine", "boot"])
