"""MIG profiles as people write them."""

import re

import pytest

from canhazgpu.cli import values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1g.10gb", "1g.10gb"),
        ("1G.10GB", "1g.10gb"),
        ("1G.10GB:2", "1g.10gb:2"),
        ("7g.80gb:1024", "7g.80gb:1024"),
        ("1g.5gb+me", "1g.5gb+me"),
        ("1g.10gb+me.all", "1g.10gb+me.all"),
        ("1g.24gb-gfx", "1g.24gb-gfx"),
        ("1c.2g.20gb", "1c.2g.20gb"),
        ("1c.2g.20gb+me:3", "1c.2g.20gb+me:3"),
    ],
)
def test_what_is_a_profile(text: str, found: str) -> None:
    """In whatever case it is written."""
    assert values.mig(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "g.",
        ".",
        "1g.",
        "g.10gb",
        ".10gb",
        "1g",
        "10gb",
        "1g.10",
        "1.10gb",
        "small",
        "1g.10gb+",
        "1g.10gb.",
        "1g..10gb",
        "1c.1c.1g.10gb",
        "1c.10gb",
        "\u0661g.10gb",
        "1g.10gb+m e",
        "1g.10gb" + "0" * 32,
        "1g.10gb\n",
    ],
)
def test_what_is_no_profile(text: str) -> None:
    """It is refused on one line that shows how one is written."""
    with pytest.raises(ValueError, match=re.escape("is not a MIG profile: write it like 1g.10gb")) as refused:
        values.mig(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1g.10gb:", "as in 1g.10gb:2"),
        ("1g.10gb:0", "request 1 or more"),
        ("1g.10gb:1025", "request 1 or more"),
        ("1g.10gb:x", "request 1 or more"),
    ],
)
def test_a_wrong_number_of_instances(text: str, said: str) -> None:
    """The error is about the number."""
    with pytest.raises(ValueError, match=re.escape(said)):
        values.mig(text)
