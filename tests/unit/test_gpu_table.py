"""The table of `status --long`: what it shows at each width, and which GPUs are chosen in which order."""

import re
import unicodedata
from typing import Any

import pytest
from support.gpus import described, process, reserved, unreserved

from canhazgpu.cli.display.gpu_filter import ORDERS, Choice
from canhazgpu.cli.display.gpu_table import DROPPED, bar, gpu_table
from canhazgpu.cli.display.terminal import fit, width_of

ALWAYS = ["GPU", "STATE", "WHO"]
HOST = [
    described(0, temperature_c=None, utilization_percent=None),
    reserved(
        1,
        "alice",
        reservation={"note": "paper deadline, please ask me", "label": "exp7"},
        memory_used_mb=40000,
        utilization_percent=97,
        temperature_c=71,
        processes=[process(7, "alice"), process(8, "bob", "jupyter")],
        others=[process(8, "bob", "jupyter")],
    ),
    unreserved(2, "bob", "carol", "dave", "eve"),
    described(3, status="ERROR", reason="GPU is lost", memory_used_mb=None, memory_mb=0),
]


def titles(width: int) -> list[str]:
    """Return the titles at a width."""
    return gpu_table(HOST, width).splitlines()[0].split()


@pytest.mark.parametrize("width", range(40, 201))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """At every width from 40 to 200 columns, each GPU has one line that fits."""
    lines = gpu_table(HOST, width).splitlines()
    assert len(lines) == 1 + len(HOST)
    assert max(map(width_of, lines)) <= width


def test_columns_are_left_out_in_the_stated_order() -> None:
    """The narrower it is, the more of the stated order is missing, and nothing else ever is."""
    seen = set()
    for width in range(40, 201):
        shown = titles(width)
        missing = [title for title in DROPPED if title not in shown]
        assert missing == list(DROPPED[: len(missing)]), width
        assert [title for title in shown if title not in DROPPED] == ALWAYS
        seen.add(len(missing))
    assert len(titles(200)) == len(ALWAYS) + len(DROPPED)
    assert len(titles(40)) <= 5
    assert max(seen) - min(seen) >= 6


def test_everything_is_there_where_there_is_room() -> None:
    """At 200 columns nothing is left out or cut."""
    lines = gpu_table(HOST, 200).splitlines()
    assert re.search(r"1  reserved +alice \(exp7\) \+ bob +39\.1/79\.6 +█████░░░░░ +97% +71C +", lines[2])
    assert lines[2].endswith("NVIDIA H100 80GB HBM3  paper deadline, please ask me  7 python3, 8 jupyter")
    assert "4242 python3, 4243 python3 and 2 more" in lines[3]
    assert re.search(r"0  free +-  +0\.0/79\.6  ░{10} +-     -  -", lines[1])
    assert re.search(r"3  error +-  +-  - +0%", lines[4])
    assert "GPU is lost" in lines[4]


def test_hostile_text_cannot_break_a_line() -> None:
    """Escape sequences are spelled out, wide characters are counted as two columns."""
    name = "\x1b[2J\x1b]0;owned\x07\u202e\n"
    evil = reserved(0, name, reservation={"note": name, "label": name}, name=name, others=[process(1, name)])
    wide = reserved(1, "\u7814\u7a76\u5ba4" * 5, reservation={"note": "\u8ad6\u6587" * 40})
    for width in (40, 63, 80, 120, 200):
        text = gpu_table([evil, wide], width)
        assert all(unicodedata.category(one) not in {"Cc", "Cf"} for one in text.replace("\n", ""))
        assert len(text.splitlines()) == 3
        assert max(map(width_of, text.splitlines())) <= width


def test_without_unicode_a_bar_is_ascii() -> None:
    """Where the terminal has no block characters, the bar has others."""
    assert (bar(0.5, 10), bar(0.5, 10, unicode=False)) == ("█████░░░░░", "#####.....")
    assert (bar(0.01, 4), bar(0.001, 4), bar(1, 4), bar(None, 4)) == ("█░░░", "░░░░", "████", "-")


def test_text_is_cut_with_an_ellipsis() -> None:
    """A cut text has exactly the width, also where half a wide character would be left."""
    assert [fit("abcdef", 6), fit("abc", 5), width_of(fit("\u7814\u7a76\u5ba4", 4))] == ["abcdef", "abc  ", 4]


def test_colour_is_only_around_the_state() -> None:
    """With colours, the text is the same."""
    bright = gpu_table(HOST, 120, colour=True)
    assert "\x1b[31munreserved\x1b[0m" in bright
    assert re.sub(r"\x1b\[\d+m", "", bright) == gpu_table(HOST, 120)


def chosen(gpus: list[dict[str, Any]], **asked: Any) -> list[int]:
    """Return the numbers of the chosen GPUs."""
    return [gpu["gpu_id"] for gpu in Choice(**asked).of(gpus)]


def test_a_choice() -> None:
    """A user's are those that they hold or use; free are those that are available."""
    assert chosen(HOST) == [0, 1, 2, 3]
    assert chosen(HOST, user="alice") == [1]
    assert chosen(HOST, user="bob") == [1, 2]
    assert chosen(HOST, user="mallory") == []
    assert chosen(HOST, free=True) == [0]
    assert chosen(HOST, own=["r-alice-1"]) == [1]


def test_orders() -> None:
    """Numbers come highest first, names and times in their order, and those without one last."""
    assert {order: chosen(HOST, order=order) for order in ORDERS} == {
        "gpu": [0, 1, 2, 3],
        "memory": [1, 2, 0, 3],
        "util": [1, 2, 3, 0],
        "temp": [1, 2, 3, 0],
        "user": [1, 2, 0, 3],
        "until": [1, 0, 2, 3],
    }
