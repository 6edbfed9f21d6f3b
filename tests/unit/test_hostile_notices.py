"""Hostile text in any field of any notice: it adds no tag, no control character and no line."""

import unicodedata
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import harm
from support.pages import Page

from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.channels.wall import message
from canhazgpu.notifiers.messages.html_page import page
from canhazgpu.notifiers.messages.phrases import safe_text
from canhazgpu.notifiers.messages.plain_text import lines, subject
from canhazgpu.notifiers.messages.sample_notices import samples

OURS = {"kind", "audience"}  # Fields that no foreigner fills.
NASTY = "<>&\"'`=\x00\x07\x1b\r\n\t\x85\x9b\u2028\u202e\u2066\u200b\ud800\U000e0041;|$()\\/ a"
TEXTS = (
    st.text(st.characters(), max_size=300)
    | st.text(st.sampled_from(NASTY), max_size=80)
    | st.sampled_from(
        [
            "</td></table><script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "<!--",
            "]]>",
            "&lt;script&gt;&#60;b&#62;",
            "\r\nBcc: victim@example.com\r\n\r\nGPU 7: AVAILABLE",
            "\x1b]0;owned\x07\x1b[2J",
            "A" * 65536,
            "\U0001f600" * 400,
        ]
    )
).filter(safe_text)


def filled(value: Any, text: str, field: str = "") -> Any:
    """Return a value with `text` in place of every string; the subject of an incident keeps its family."""
    if isinstance(value, msgspec.Struct):
        changed = {name: filled(getattr(value, name), text, name) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(filled(one, text, field) for one in value)
    if isinstance(value, dict):
        return dict.fromkeys((text,), 1)
    if not isinstance(value, str) or field in OURS or not value:
        return value
    return value.partition("/")[0] + "/" + text if field == "subject" else text


@given(st.sampled_from(samples()).map(lambda one: one.notice), TEXTS)
def test_foreign_text_is_only_ever_text(notice: Notice, text: str) -> None:
    """Lines stay lines, the page has the tags it has with a harmless text, and nothing invisible is left."""
    hostile, harmless = filled(notice, text), filled(notice, "x")
    shown = lines(hostile)
    assert len(shown) == len(lines(harmless))
    for one in (*shown, subject(hostile)):
        assert harm(one, "") == set()
        assert all(unicodedata.category(char) not in {"Co", "Cn"} for char in one)
    written = message(shown)
    assert len(written) <= 1024
    assert harm(written.decode(), "\a\r\n") == set()
    html = page(hostile)
    assert harm(html, "\n") == set()
    assert html.encode().decode() == html
    read = Page(html)
    assert read.wrong == []
    assert read.tags == Page(page(harmless)).tags
