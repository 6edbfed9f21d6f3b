"""JSON and settings without the packages that are slow to import, against those packages."""

import json
import string
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.client.plain_json import dumps, indented, loads
from canhazgpu.client.plain_settings import plain_settings

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)
WORDS = st.sampled_from(["a", "b", "socket", "reserve", "x-y", "ü", "a b", "", '"a"'])
PATHS = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
RIGHT = st.sampled_from(
    [
        *('"x"', '"a # b"', '""', "'x'", '"a\\\\n"', '"""', '"x" # why', '"x" y'),
        *("12", "0", "012", "3 # why", "1_0", "\u0663", "-1", "1.5", "", "true", "2026-01-01", "{ a = 1 }"),
        *("[]", '["a", "b",]', '["a" "b"]', "[1]"),
    ]
)
LINES = st.one_of(
    st.builds("{} = {}".format, PATHS, RIGHT),
    st.builds("[{}]".format, PATHS),
    st.builds("[[{}]]".format, PATHS),
    st.builds("# {}".format, st.text(string.printable + "\u00fc\u2028")),
    st.sampled_from(["", "  ", "\t", "\r", "x", "]", "a = [", '"b",', "]"]),
)


@given(VALUES)
def test_json_is_that_of_the_package(value: Any) -> None:
    """What one writes, the other reads; on one line and indented."""
    assert dumps(value) == json.dumps(value).encode()
    assert indented(value) == json.dumps(value, indent=2)
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n") == value


@pytest.mark.parametrize("text", [b"", b"{", b"[1] 2", b"nothing", b"'a'", b"\xff", b'{"a" 1}'])
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    """As with the package."""
    with pytest.raises(ValueError, match=r"."):
        loads(text)


def test_without_the_c_functions_the_package_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that has them not, or has others, gets the same."""
    monkeypatch.setitem(sys.modules, "_json", None)
    assert loads(dumps({"a": [1, None]})) == {"a": [1, None]}
    assert indented({"a": [1]}) == json.dumps({"a": [1]}, indent=2)


@given(st.lists(LINES, max_size=8).map("\n".join))
def test_settings_are_read_as_tomllib_reads_them(text: str) -> None:
    """A file that is not read in the same way, or is not valid, is not read at all."""
    found = plain_settings(text.encode())
    if found is not None:
        assert found == tomllib.loads(text)


def test_plain_settings_are_recognised() -> None:
    """The example of all settings, and what installations have, needs no tomllib."""
    example = Path(__file__).parents[2] / "config" / "example.toml"
    assert plain_settings(example.read_bytes()) == tomllib.loads(example.read_text())
    text = (
        'socket = "/run/x"  # here\nnotify.email.admins = ["root@localhost", "b"]\n[run]\nw = true\nn = 3\n'
    )
    assert plain_settings(text.encode()) == tomllib.loads(text)
    assert plain_settings(b"socket = '/run/x'") is None
    assert plain_settings(b"\xff") is None
