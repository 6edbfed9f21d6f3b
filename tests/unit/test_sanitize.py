"""`printable` turns any input into one visible line of bounded length."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.events.sanitize import NAME_LIMIT, printable

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ANY_TEXT = st.text(st.characters(), max_size=200) | st.text(st.sampled_from("ab\x00\x1b\x85\u2028" + BIDI))


def is_visible(text: str) -> bool:
    """Assert that no character is a separator, control, format, surrogate, private or unassigned one."""
    return all(
        unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        and (one == " " or not one.isspace())
        for one in text
    )


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_no_control_or_bidi_character_survives(text: str, limit: int) -> None:
    """The result is visible, on one line, within the limit, and valid UTF-8."""
    shown = printable(text, limit)
    assert is_visible(shown)
    assert len(shown) <= limit
    assert not set(shown) & set(BIDI)
    assert shown.encode().decode() == shown


@given(st.binary(max_size=400), st.integers(min_value=1, max_value=80))
def test_no_byte_string_survives_either(raw: bytes, limit: int) -> None:
    """Invalid UTF-8 bytes are spelled out, and nothing raises."""
    shown = printable(raw, limit)
    assert is_visible(shown)
    assert len(shown) <= limit


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_a_second_time_changes_nothing(text: str, limit: int) -> None:
    """Applying it twice gives the same result."""
    once = printable(text, limit)
    assert printable(once, limit) == once


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_nothing_is_dropped_in_silence(text: str, limit: int) -> None:
    """Either every character is shown or spelled out, or the end shows that there was more."""
    shown, whole = printable(text, limit), printable(text, 10 * len(text) + 1)
    if len(whole) <= limit:
        assert shown == whole
    else:
        assert shown.endswith("…")
        assert whole.startswith(shown[:-1])


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_bytes_and_text_are_shown_alike(text: str, limit: int) -> None:
    """The UTF-8 bytes of a text are shown and cut like the text."""
    raw = text.encode("utf-8", "ignore")
    assert printable(raw, limit) == printable(raw.decode(), limit)


def test_a_cut_name_of_four_byte_characters_says_that_it_was_cut() -> None:
    """Sixty-five emoji as bytes end in an ellipsis, as they do as text."""
    text = "\U0001f600" * (NAME_LIMIT + 1)
    assert printable(text).endswith("…")
    assert printable(text.encode()) == printable(text)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("python3", "python3"),
        ("naïve Größe 数据", "naïve Größe 数据"),
        ("a\nb", r"a\nb"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb", r"a\u200bb"),
        ("a\u00a0b", r"a\xa0b"),
        ("a\u2028b", r"a\u2028b"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"a\x00b", r"a\x00b"),
        (b"\xc2\x9b31m", r"\x9b31m"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(raw: str | bytes, shown: str) -> None:
    """Escapes, line breaks, bidi overrides, zero-width characters and bad bytes are spelled out."""
    assert printable(raw) == shown


def test_an_escape_is_never_cut_in_two() -> None:
    """An escape is shown as a whole or left out."""
    assert printable("ab\u202e", 7) == "ab…"
    assert printable("ab\u202e", 8) == r"ab\u202e"
