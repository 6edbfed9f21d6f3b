"""The forms of a notice: text and page are equal, a terminal gets 1024 bytes, docs/notices is current."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.pages import Page

from canhazgpu.events.contract.values import AUDIENCES, NOTICE_KINDS
from canhazgpu.notifiers.channels.wall import CUT, message
from canhazgpu.notifiers.messages.describe import describe
from canhazgpu.notifiers.messages.html_page import page
from canhazgpu.notifiers.messages.plain_text import QUESTIONS, lines, subject
from canhazgpu.notifiers.messages.sample_notices import Sample, samples
from canhazgpu.notifiers.samples import files

NOTICES = Path(__file__).parents[2] / "docs" / "notices"
SAMPLES = {one.name: one for one in samples()}
EVERY = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
LONGEST = 1024


def test_docs_notices_is_what_the_code_makes() -> None:
    """`python -m canhazgpu.notifiers.samples docs/notices` would change nothing."""
    kept = {path.name: path.read_text(encoding="utf-8") for path in NOTICES.iterdir()}
    assert kept == files()


def _strings(value: Any) -> list[str]:
    if isinstance(value, msgspec.Struct):
        return [text for name in value.__struct_fields__ for text in _strings(getattr(value, name))]
    if isinstance(value, tuple):
        return [text for one in value for text in _strings(one)]
    return [str(value)] if isinstance(value, str) or (isinstance(value, int) and value > 100) else []


@EVERY
def test_text_and_page_tell_the_same(sample: Sample) -> None:
    """Every sentence, command, process and cell is in text and page, and the page is valid."""
    account = describe(sample.notice)
    text, html = "\n".join(lines(sample.notice)), page(sample.notice)
    read = Page(html)
    assert read.wrong == []
    assert html.startswith("<!DOCTYPE html>\n<html ")
    assert (read.tags.count("html"), read.tags.count("title"), read.tags.count("h1")) == (1, 1, 1)
    assert "<script" not in html
    assert "http" not in html
    assert account.headline in read.text
    assert subject(sample.notice) in read.text
    assert QUESTIONS + sample.notice.contact in read.text
    for one in _strings(account.parts):
        assert " ".join(one.split()) in read.text, one
        assert one.upper() in text.upper(), one


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("kind", [kind for kind in NOTICE_KINDS if kind not in ("test", "digest")])
def test_wall_for_everyone_has_words_for_every_kind(kind: str, audience: str) -> None:
    """Every kind of notice has wording for every audience."""
    for one in SAMPLES.values():
        if one.notice.kind == kind:
            changed = msgspec.structs.replace(one.notice, audience=audience)
            assert lines(changed)
            assert Page(page(changed)).wrong == []


@EVERY
def test_a_terminal_gets_one_bell_and_whole_lines(sample: Sample) -> None:
    """A terminal gets one bell and at most 1024 bytes of whole lines, with the contact line."""
    text = lines(sample.notice)
    written = message(text)
    assert len(written) <= LONGEST
    assert written.startswith(b"\a\r\n")
    assert written.count(b"\a") == 1
    shown = written.decode().split("\r\n")[1:-1]
    if shown != text:
        assert shown[-2:] == [CUT, text[-1]]
        assert shown[:-2] == text[: len(shown) - 2]
        assert len(shown) > 5


def test_the_commands_come_before_what_may_be_cut() -> None:
    """With 64 processes on eight GPUs, a terminal still shows all three suggested commands."""
    written = message(lines(SAMPLES["opened-offender-many"].notice)).decode()
    assert "canhazgpu reserve --gpu-ids 0,1,2,3,4,5,6,7 --duration 4h\r\n" in written
    assert "20706 20707\r\n" in written
    assert "canhazgpu silence ack --for 1h\r\n" in written


@pytest.mark.parametrize("first", ["", "x" * 5000, "\U0001f600" * 3000])
@pytest.mark.parametrize("last", [[], ["end"], [QUESTIONS + "y" * 900], [QUESTIONS + "\U0001f600" * 300]])
def test_no_length_of_lines_is_too_much_for_a_terminal(first: str, last: list[str]) -> None:
    """Only the first line can be cut; the others are complete or left out."""
    written = message([first, "z" * 200, "kill " + "1 " * 800, *last])
    assert len(written) <= LONGEST
    assert b"\r\n" + b"z" * 200 + b"\r\n" in written
    assert b"kill" not in written
    assert CUT.encode() in written


def test_an_empty_message_is_a_bell() -> None:
    """An empty message is only a bell."""
    assert message([]) == b"\a\r\n\r\n"


def test_an_invalid_time_is_shown_as_unknown() -> None:
    """An invalid time is shown as unknown."""
    opened = SAMPLES["opened-offender"].notice
    odd = tuple(msgspec.structs.replace(one, since="yesterday") for one in opened.violations)
    for kind in ("opened", "reminder"):
        notice = msgspec.structs.replace(opened, kind=kind, created="x", violations=odd)
        assert "since an unknown time. [" in lines(notice)[0]
