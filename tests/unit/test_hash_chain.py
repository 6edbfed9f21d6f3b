"""The form of a chained line, the head file, and the files that belong to a log."""

import gzip
import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from support.audit_log import chain

from canhazgpu.events.schemas import DATA
from canhazgpu.notifiers.audit_log.chain_head import (
    ChainHead,
    NoChainHead,
    chain_head_path,
    read_chain_head,
    write_chain_head,
)
from canhazgpu.notifiers.audit_log.hash_chain import LONGEST, START, is_plain, link_of, seal
from canhazgpu.notifiers.audit_log.rotation import files_of, open_log_file, read_lines, rotated_from

LINES, HEAD = chain(10)


def test_the_form_of_a_line_is_the_documented_one() -> None:
    """The chain value is a SHA-256 of the previous value (64 zeros at first) and the line's own bytes."""
    first, head = seal(b'{"id": "a", "gpu": 1}\n', START)
    body = b'{"id": "a", "gpu": 1, "seq": 1'
    expected = hashlib.sha256(b"0" * 64 + body).hexdigest()
    assert first == body + b', "chain": "' + expected.encode() + b'"}\n'
    assert (head.seq, head.chain) == (1, expected)
    second, _ = seal(b'{"id": "b"}\n', head)
    value = hashlib.sha256(expected.encode() + b'{"id": "b", "seq": 2').hexdigest()
    assert json.loads(second) == {"id": "b", "seq": 2, "chain": value}
    assert [*json.loads(first)][-2:] == ["seq", "chain"]


def test_only_a_whole_line_of_an_object_is_sealed() -> None:
    """A line that does not end like a JSON object with a line feed is rejected."""
    for line in (b"", b"{}", b'["a"]\n', b'{"id": "a"}'):
        with pytest.raises(ValueError, match="JSON object"):
            seal(line, START)


def test_no_fact_has_fields_named_like_those_of_the_chain() -> None:
    """No fact has fields named `seq` or `chain`, because they would be hidden."""
    assert {
        name
        for data in DATA.values()
        for name in msgspec.structs.fields(data)
        if name.name in ("seq", "chain")
    } == set()


@pytest.mark.parametrize(
    "line",
    [
        LINES[0].replace(b", ", b","),
        LINES[0].rstrip(),
        LINES[0].replace(b"\n", b"\r\n"),
        LINES[0].replace(b"1, ", b"01, "),
        LINES[0].replace(b'"chain": "', b'"chain": "A'),
        LINES[0].upper(),
        b"\n",
        b"\xff\x00\n",
    ],
)
def test_what_is_not_in_the_exact_form_has_no_place_in_the_chain(line: bytes) -> None:
    """A line that another program has reformatted does not belong to the chain, and is not an old line."""
    assert link_of(line) is None
    assert not is_plain(line) or b"chain" not in line


def test_the_kept_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The head file is replaced atomically and readable by its owner only.

    Anything else in its place is an error.
    """
    log = tmp_path / "violations.log"
    path = chain_head_path(log)
    assert read_chain_head(log) is None
    for anchor in (ChainHead(START), ChainHead(HEAD, START)):
        write_chain_head(log, anchor)
        assert read_chain_head(log) == anchor
    assert (path.name, path.stat().st_mode & 0o777) == (".violations.log.head", 0o600)
    assert [*tmp_path.iterdir()] == [path]
    for harm in (
        b"",
        b"{}",
        b'{"head": {"seq": 1, "chain": "0"}}',
        b'{"head": {"seq": -1, "chain": "%b"}}' % (b"0" * 64),
        b"\xff",
    ):
        path.write_bytes(harm)
        with pytest.raises(NoChainHead):
            read_chain_head(log)


def test_the_kept_head_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A link in the place of the temporary head file is removed, not followed."""
    log, victim = tmp_path / "log", tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".log.head.new").symlink_to(victim)
    write_chain_head(log, ChainHead(HEAD))
    chain_head_path(log).unlink()
    chain_head_path(log).symlink_to(victim)
    with pytest.raises(OSError, match=r"symbolic|loop|Too many"):
        read_chain_head(log)
    assert victim.read_text() == "mine"


def test_what_a_log_was_rotated_to_is_known_by_its_name(tmp_path: Path) -> None:
    """Rotated files have a number or a date, compressed or not.

    Other copies and unfinished files do not belong.
    """
    parts = [
        "log",
        "log.1",
        "log.2.gz",
        "log-20260101",
        "log-20260101-1767225600.gz",
        "log.2026-01-02",
        "log.3.xz",
    ]
    others = ["log.1.gz", "log.bak", "log.1~", "logs", "log.d", ".log.head", ".log.lock", "log2", "log.1.swp"]
    for name in parts + others:
        (tmp_path / name).touch()
    assert {path.name for path in files_of(tmp_path / "log")} == {*parts}
    assert rotated_from(tmp_path / "log.1.gz") == rotated_from(tmp_path / "log-20260101") == tmp_path / "log"
    assert rotated_from(tmp_path / "log") is None


def test_lines_are_read_in_bounded_pieces(tmp_path: Path) -> None:
    """A line without end is cut, and the line behind it is read correctly."""
    path = tmp_path / "log.1.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"x" * 5 * LONGEST + b"\nb\nc"))
    with open_log_file(path) as stream:
        read = [*read_lines(stream)]
    assert [len(one) for one in read] == [2, LONGEST + 2, 2, 1]
    assert read[2:] == [b"b\n", b"c"]
