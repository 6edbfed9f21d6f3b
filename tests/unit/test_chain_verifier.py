"""A check of the log finds every line of the chain that was changed, and no other."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audit_log import chain

from canhazgpu.notifiers.audit_log.chain_verifier import ChainVerifier
from canhazgpu.notifiers.audit_log.findings import MOST
from canhazgpu.notifiers.audit_log.hash_chain import LONGEST, START, Head, link_of, seal

Lines = list[bytes]
LINES, HEAD = chain(10)


def prove(lines: Lines, anchor: Head | None = HEAD, begin: Head | None = None) -> ChainVerifier:
    """Return the check of one file with these lines; `begin` says whether its first position is known."""
    proof = ChainVerifier(anchor, begin=begin)
    proof.open("log", live=True)
    for one in lines:
        proof.take(one)
    proof.end()
    return proof


def found(lines: Lines, anchor: Head | None = HEAD) -> list[tuple[str, int, int, int, int]]:
    """Return the kind, the lines and the numbers of the findings."""
    kept = prove(lines, anchor).findings.listed
    return [(one.kind, one.line, one.last_line, one.first_seq, one.last_seq) for one in kept]


def forged(seq: int) -> bytes:
    """Return a different line with this number, whose chain value fits."""
    before = link_of(LINES[seq - 2])
    return seal(b'{"id": "forged"}\n', before.head if before else START)[0]


@pytest.mark.parametrize(
    ("touched", "expected"),
    [
        pytest.param(LINES, [], id="untouched"),
        pytest.param(LINES[3:], [], id="rotated away"),
        pytest.param(
            [LINES[0].replace(b'"1"', b'"x"'), *LINES[1:]], [("edited", 1, 1, 1, 1)], id="first edited"
        ),
        pytest.param(
            [*LINES[:4], LINES[4].replace(b'"5"', b'"x"'), *LINES[5:]], [("edited", 5, 5, 5, 5)], id="edited"
        ),
        pytest.param(
            [*LINES[:4], LINES[4][:-67] + b"0" * 64 + b'"}\n', *LINES[5:]],
            [("edited", 5, 5, 5, 5)],
            id="value",
        ),
        pytest.param(
            [*LINES[:4], LINES[4].replace(b": 5,", b": 8,"), *LINES[5:]],
            [("edited", 5, 5, 8, 8)],
            id="seq up",
        ),
        pytest.param(
            [*LINES[:4], LINES[4].replace(b": 5,", b": 2,"), *LINES[5:]],
            [("edited", 5, 5, 2, 2)],
            id="seq down",
        ),
        pytest.param(
            [LINES[0].replace(b": 1,", b": 8,"), *LINES[1:]], [("edited", 1, 1, 8, 8)], id="first seq"
        ),
        pytest.param(
            [*LINES[:9], LINES[9].replace(b": 10,", b": 99,")], [("edited", 10, 10, 99, 99)], id="last seq"
        ),
        pytest.param([*LINES[:4], forged(5), *LINES[5:]], [("edited", 6, 6, 6, 6)], id="edited, made to fit"),
        pytest.param([*LINES[:9], forged(10)], [("head_differs", 10, 10, 10, 10)], id="last one made to fit"),
        pytest.param([*LINES[:4], forged(5), *LINES[4:]], [("duplicated", 6, 6, 5, 5)], id="put in"),
        pytest.param([*LINES[:3], *LINES[4:]], [("removed", 4, 4, 4, 4)], id="removed"),
        pytest.param([*LINES[:3], *LINES[8:]], [("removed", 4, 4, 4, 8)], id="many removed"),
        pytest.param([*LINES[:3], LINES[9]], [("removed", 4, 4, 4, 9)], id="removed but for the last"),
        pytest.param(LINES[:7], [("removed_at_end", 7, 7, 8, 10)], id="cut"),
        pytest.param([], [("removed_at_end", 0, 0, 1, 10)], id="all cut"),
        pytest.param(
            [*LINES[:7], b"x\n"], [("removed_at_end", 7, 7, 8, 10), ("not_json", 8, 8, 0, 0)], id="cut+"
        ),
        pytest.param(
            [*LINES[:4], LINES[5], LINES[4], *LINES[6:]], [("out_of_order", 5, 5, 6, 6)], id="swapped"
        ),
        pytest.param([LINES[1], LINES[0], *LINES[2:]], [("out_of_order", 2, 2, 1, 1)], id="first swapped"),
        pytest.param([*LINES[:8], LINES[9], LINES[8]], [("out_of_order", 9, 9, 10, 10)], id="last swapped"),
        pytest.param(
            [*LINES[:2], *LINES[4:6], *LINES[2:4], *LINES[6:]], [("out_of_order", 5, 6, 3, 4)], id="blocks"
        ),
        pytest.param(
            [*LINES[:3], LINES[8], *LINES[3:8], LINES[9]], [("out_of_order", 4, 4, 9, 9)], id="moved up"
        ),
        pytest.param([*LINES[:5], *LINES[2:]], [("duplicated", 6, 8, 3, 5)], id="repeated"),
        pytest.param([*LINES, LINES[9]], [("duplicated", 11, 11, 10, 10)], id="last repeated"),
        pytest.param([*LINES[:4], b"\x00\xff\n", *LINES[5:]], [("not_json", 5, 5, 0, 0)], id="not JSON"),
        pytest.param([*LINES[:4], b"[" * 99_999 + b"\n", *LINES[5:]], [("not_json", 5, 5, 0, 0)], id="deep"),
        pytest.param([*LINES[:4], b'{"id": "5"}\n', *LINES[5:]], [("unsealed", 5, 5, 0, 0)], id="stripped"),
        pytest.param(
            [LINES[0].replace(b'": ', b'":'), *LINES[1:]], [("unsealed", 1, 1, 0, 0)], id="respaced"
        ),
        pytest.param(
            [*LINES[:4], b"x" * LONGEST + b"\n", *LINES[5:]], [("too_long", 5, 5, 0, 0)], id="too long"
        ),
        pytest.param([b'{"id": "0"}\n', *LINES], [], id="from before"),
        pytest.param([b'{"id": "0"}\n', *LINES[2:]], [("removed", 2, 2, 1, 2)], id="removed behind before"),
        pytest.param([*LINES, b'{"id": "0"}\n'], [("unsealed", 11, 11, 0, 0)], id="not from before"),
        pytest.param([*LINES, LINES[9][:40]], [], id="torn"),
    ],
)
def test_one_touch_is_one_finding_that_names_the_line(
    touched: Lines, expected: list[tuple[str, int, int, int, int]]
) -> None:
    """One change gives exactly one finding, at the line that was changed."""
    assert found(touched) == expected


@pytest.mark.parametrize(
    ("lines", "anchor", "expected"),
    [
        (LINES, chain(9)[1], []),
        (LINES, START, []),
        (LINES[5:], chain(5)[1], []),
        (LINES, None, [("head_missing", 0, 0, 0, 0)]),
        (LINES, Head(10, "0" * 64), [("head_differs", 10, 10, 10, 10)]),
        (LINES[5:], chain(2)[1], [("head_differs", 0, 0, 2, 2)]),
        ([b'{"id": "0"}\n'], None, []),
        ([], START, []),
    ],
)
def test_the_kept_head_must_be_in_the_chain(
    lines: Lines, anchor: Head | None, expected: list[tuple[str, int, int, int, int]]
) -> None:
    """The head file may be older than the log, as after a crash.

    It may not be foreign, older than all lines, or missing.
    """
    assert found(lines, anchor) == expected


def test_a_first_line_is_proven_by_what_it_is_hashed_over() -> None:
    """If the line before it is gone, the content of the first line is not proven, and a finding says so."""
    assert not prove(LINES).begins_unproven
    assert prove(LINES[3:]).begins_unproven
    assert not prove(LINES[3:], chain(3)[1]).begins_unproven


def _remove(lines: Lines, one: int, _: int, __: bytes) -> None:
    del lines[one]


def _repeat(lines: Lines, one: int, other: int, _: bytes) -> None:
    lines.insert(other, lines[one])


def _swap(lines: Lines, one: int, other: int, _: bytes) -> None:
    lines[one], lines[other] = lines[other], lines[one]


def _spoil(lines: Lines, one: int, other: int, new: bytes) -> None:
    place = other % len(lines[one])
    lines[one] = lines[one][:place] + new + lines[one][place + 1 :].rstrip() + b"\n"


def _replace(lines: Lines, one: int, _: int, new: bytes) -> None:
    lines[one] = new + b"\n"


TOUCHES = st.sampled_from([_remove, _repeat, _swap, _spoil, _replace])


@settings(max_examples=500)
@given(
    st.integers(1, 8),
    st.lists(st.tuples(TOUCHES, st.integers(0, 99), st.integers(0, 99), st.binary(max_size=3)), max_size=4),
)
def test_whatever_is_done_to_the_lines_is_found(
    length: int, touches: list[tuple[Callable[[Lines, int, int, bytes], None], int, int, bytes]]
) -> None:
    """If a check has no findings, the lines are as written, except that the oldest ones may be missing."""
    written, head = chain(length)
    lines = [*written]
    for touch, one, other, new in touches:
        if lines:
            touch(lines, one % len(lines), other % len(lines), new.replace(b"\n", b"x"))
    proof = prove(lines, head)
    lines = lines[proof.before :]
    # Lines from before the chain stand before its first one: then nothing of it was rotated away.
    if lines == written or (not proof.before and lines in (written[begin:] for begin in range(length))):
        assert proof.findings.listed == []
    elif not proof.findings.listed:
        assert proof.begins_unproven
        assert lines[1:] == written[-len(lines) :][1:]


@settings(max_examples=500)
@given(
    st.integers(1, 8),
    st.integers(0, 3),
    st.lists(st.tuples(TOUCHES, st.integers(0, 99), st.integers(0, 99), st.binary(max_size=3)), max_size=4),
)
def test_where_it_is_kept_how_the_file_began_the_oldest_lines_are_missed_too(
    length: int, gone: int, touches: list[tuple[Callable[[Lines, int, int, bytes], None], int, int, bytes]]
) -> None:
    """If the start of the file is known, removed lines at its start are found too."""
    written, head = chain(gone + length)
    begin = chain(gone)[1]
    lines = written[gone:]
    for touch, one, other, new in touches:
        if lines:
            touch(lines, one % len(lines), other % len(lines), new.replace(b"\n", b"x"))
    proof = prove(lines, head, begin)
    assert bool(proof.findings.listed) == (lines != written[gone:])
    assert proof.findings.listed or not proof.begins_unproven


def test_findings_are_bounded_and_those_that_stand_together_are_one() -> None:
    """Adjacent bad lines are one finding, and many findings need little memory."""
    assert found([b"x\n"] * 5000, None) == [("not_json", 1, 5000, 0, 0)]
    many, head = chain(2 * MOST * 2 + 10)
    proof = prove(many[::2], head)
    assert len(proof.findings.listed) == MOST
    assert proof.findings.left_out > MOST / 2


def test_thousands_of_lines_in_the_wrong_order_are_found() -> None:
    """Thousands of lines in the wrong order need bounded memory, and none is reported as missing."""
    many, head = chain(3 * MOST)
    kinds = {one.kind for one in prove(many[::-1], head).findings.listed}
    assert kinds == {"out_of_order"}
