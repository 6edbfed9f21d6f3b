"""A manual change of the audit log is found, with the file, the line and the kind of change."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.audit_log import found, lines, three_files, write

from canhazgpu.notifiers.audit_log.chain_head import read_chain_head
from canhazgpu.notifiers.audit_log.verification import verify
from canhazgpu.notifiers.audit_log.writer import AuditLog


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
def three(path: Path) -> list[Path]:
    """Write a log of three files with five lines each: compressed, plain, current."""
    return three_files(path)


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace the lines of a file."""
    new = b"".join(change(lines(path)))
    path.write_bytes(gzip.compress(new) if path.suffix == ".gz" else new)


def edit(kept: list[bytes]) -> list[bytes]:
    """Change a line in the middle."""
    return [*kept[:2], kept[2].replace(b"xx", b"xy", 1), *kept[3:]]


def swap(kept: list[bytes]) -> list[bytes]:
    """Swap two lines."""
    return [kept[0], kept[2], kept[1], *kept[3:]]


@pytest.mark.parametrize("file", [0, 1, 2])
@pytest.mark.parametrize(
    ("change", "kind", "place", "seq"),
    [
        (edit, "edited", 3, 3),
        (lambda kept: [*kept[:2], *kept[3:]], "removed", 3, 3),
        (swap, "out_of_order", 2, 3),
        (lambda kept: [*kept[:2], b"nothing\n", *kept[3:]], "not_json", 3, 0),
        (lambda kept: [*kept[:3], kept[0], *kept[3:]], "duplicated", 4, 1),
    ],
)
def test_a_hand_in_a_file_is_found(
    three: list[Path],
    file: int,
    change: Callable[[list[bytes]], list[bytes]],
    kind: str,
    place: int,
    seq: int,
) -> None:
    """An edited, removed, moved, damaged or repeated line is found in every kind of file."""
    assert found(three[2]) == []
    rewrite(three[file], change)
    number = seq and seq + 5 * file
    assert found(three[2]) == [(kind, three[file].name, place, number, number)]


def test_another_number_on_a_first_line_does_not_move_its_file(three: list[Path]) -> None:
    """Files are read in the order of their chain, and an edited number is one finding."""
    rewrite(three[0], lambda kept: [kept[0].replace(b'"seq": 1,', b'"seq": 900,'), *kept[1:]])
    assert found(three[2]) == [("edited", "violations.log.2.gz", 1, 900, 900)]


def test_a_first_line_that_is_gone_is_found(three: list[Path]) -> None:
    """The first line of each file must follow the last one of the file before, except in the oldest."""
    rewrite(three[1], lambda kept: kept[1:])
    assert found(three[2]) == [("removed", "violations.log.1", 1, 6, 6)]
    rewrite(three[0], lambda kept: kept[1:])
    assert found(three[2]) == [("removed", "violations.log.1", 1, 6, 6)]
    assert verify(three[2]).first == 2


def test_a_rotated_file_that_is_gone_is_found(three: list[Path]) -> None:
    """A missing file in the middle is a finding; a missing oldest one is only reported."""
    middle = three[1].read_bytes()
    three[1].unlink()
    assert found(three[2]) == [("removed", "violations.log", 1, 6, 10)]
    three[1].write_bytes(middle)
    three[0].unlink()
    proof = verify(three[2])
    assert (proof.findings.listed, proof.first, proof.begins_unproven) == ([], 6, True)


@pytest.mark.parametrize("left", [1, 3])
def test_what_is_cut_off_the_beginning_was_not_rotated_away(three: list[Path], left: int) -> None:
    """Removed lines at the start of the log are found without the older files."""
    for path in three[:2]:
        path.unlink()
    proof = verify(three[2])
    assert (proof.findings.listed, proof.first, proof.begins_unproven) == ([], 11, False)
    rewrite(three[2], lambda kept: kept[-left:])
    assert found(three[2]) == [("removed", "violations.log", 1, 11, 15 - left)]
    rewrite(three[2], lambda kept: [b'{"id": "x"}\n', *kept])
    assert ("unsealed", "violations.log", 1, 0, 0) in found(three[2])


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_tail_that_is_cut_off_is_found_and_stays_found(three: list[Path], log: AuditLog, left: int) -> None:
    """Removed lines at the end are found by the head file, and the gap remains."""
    rewrite(three[2], lambda kept: kept[:left])
    ((kind, _, _, first, last),) = found(three[2])
    assert (kind, first, last) == ("removed_at_end", 11 + left, 15)
    write(log, "next")
    assert found(three[2]) == [("removed", "violations.log", left + 1, 11 + left, 15)]


def test_with_every_file_gone_the_numbers_go_on(three: list[Path], log: AuditLog) -> None:
    """If all files are removed, the head file shows it, and the next line continues the numbers."""
    for path in three:
        path.unlink()
    assert found(three[2]) == [("removed_at_end", "", 0, 1, 15)]
    write(log, "next")
    proof = verify(three[2])
    anchor = read_chain_head(three[2])
    assert anchor
    assert (proof.findings.listed, proof.first, proof.head) == ([], 16, anchor.head)


def test_a_packed_file_that_is_damaged_is_named(three: list[Path]) -> None:
    """A truncated compressed file is a finding, and so are the lines that are missing in it."""
    three[0].write_bytes(three[0].read_bytes()[:-30])
    kinds = {(kind, file) for kind, file, *_ in found(three[2])}
    assert ("unreadable", three[0].name) in kinds
    three[0].rename(three[0].with_name("violations.log.2.xz"))
    assert ("unreadable", "violations.log.2.xz") in {(kind, file) for kind, file, *_ in found(three[2])}
