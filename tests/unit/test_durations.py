"""Durations: the accepted syntax, its meaning, and the conversion back to text."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canhazgpu.events.durations import LONGEST, format_duration, parse_duration, spell_duration, spell_length

MILLISECONDS = st.integers(min_value=0, max_value=1000 * LONGEST)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("0.5h", 1800),
        ("1h30m", 5400),
        ("1d2h3m4s5ms", 93784.005),
        ("200ms", 0.2),
        ("0s", 0),
        (" 5s ", 5),
        ("36500d", LONGEST),
        ("5 s", 5),
        ("90 min", 5400),
        ("2 days", 172800),
        ("1 day 12 hours", 129600),
        ("1w", 604800),
        ("2 weeks", 1209600),
        ("1hr 5mins", 3900),
        ("10sec", 10),
        ("1:30:00", 5400),
        ("36:00:00", 129600),
        ("1-12:00:00", 129600),
        ("2H", 7200),
        ("30M", 1800),
        ("1H30M", 5400),
        ("2 Days", 172800),
        ("200MS", 0.2),
    ],
)
def test_what_people_write(text: str, seconds: float) -> None:
    """A duration can have any unit, a fraction, and several parts."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "s",
        "-5s",
        "+5s",
        "5  s",
        "5secss",
        "5mss",
        "5sx",
        "days",
        "2 fortnights",
        "1:30",
        "1:60:00",
        "1:30:0",
        "1:30:00h",
        "-1:30:00",
        "1-12",
        "1h30",
        "1,5h",
        ".5h",
        "1.h",
        "1e3s",
        "inf",
        "nan",
        "infs",
        "5s\n5",
        "5s;",
        "1..5s",
        "five minutes",
        "\u0663h",
        "5\x00s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is rejected with a message that shows the syntax."""
    with pytest.raises(ValueError, match="is not a duration: write 30s, 30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 400 + "d", "876001h", "36500d1ms"])
def test_more_than_a_hundred_years_is_refused(text: str) -> None:
    """More than a hundred years is rejected, because it is probably a typing error."""
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration(text)


def test_a_long_bad_text_does_not_fill_the_screen() -> None:
    """The error message shows only the start of a long text."""
    with pytest.raises(ValueError, match="is not a duration") as refusal:
        parse_duration("x" * 10_000)
    assert len(str(refusal.value)) < 150


@given(MILLISECONDS)
def test_written_and_read_it_is_the_same(milliseconds: int) -> None:
    """`parse_duration` reads what `format_duration` writes, to the millisecond."""
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.00051)


@given(st.floats(min_value=0, max_value=LONGEST - 1))
@example(60.00001)
@example(0.0004)
@example(119.9999999)
def test_whatever_is_written_can_be_read(seconds: float) -> None:
    """`format_duration` never writes a text that `parse_duration` rejects."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.002)


@given(st.text(max_size=30) | st.from_regex(re.compile(r"[0-9.]*(ms|s|m|h|d)?"), fullmatch=True))
def test_no_text_does_anything_but_read_or_refuse(text: str) -> None:
    """Any text is either read as a possible number of seconds or rejected with a ValueError."""
    try:
        seconds = parse_duration(text)
    except ValueError as refusal:
        assert re.search("duration|hundred years", str(refusal))  # noqa: PT017 - both ends are right
    else:
        assert 0 <= seconds <= LONGEST


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.2, "200ms"), (2, "2s"), (90, "1m30s"), (14400, "4h"), (86400, "1d"), (1.5, "1.5s")],
)
def test_how_it_is_written(seconds: float, text: str) -> None:
    """A duration is written in its shortest form, with the largest unit first."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0h 0m 0s"), (59.999, "0h 0m 59s"), (3661, "1h 1m 1s"), (90000, "25h 0m 0s"), (-3, "0h 0m 0s")],
)
def test_how_it_is_spelled(seconds: float, text: str) -> None:
    """A duration is spelled in hours, minutes and seconds, rounded down and never negative."""
    assert spell_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3661, "1h 1m 1s"),
        (86_000, "23h 53m 20s"),
        (86_399, "1d"),
        (86_400, "1d"),
        (100_800, "1d 4h"),
        (2_591_999, "30d"),
        (2_592_000 + 7_200, "30d 2h"),
        (-3, "0h 0m 0s"),
    ],
)
def test_a_long_time_is_spelled_in_days(seconds: float, text: str) -> None:
    """From a day on, people read days and hours; a time that has just begun to run has its full length."""
    assert spell_length(seconds) == text
