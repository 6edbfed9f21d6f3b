"""The elements of the page: escaping, addresses, and what is sent when they change."""

from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canhazgpu.cli.web.markup import Child, Element, changes, el, moment, to_html

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def _as_is(at: str, form: str) -> str:
    return f"{form} {at}"


class _Reader(HTMLParser):
    """Collects what a browser would make of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_stays_text() -> None:
    """Text and values of attributes are shown as they were written, and never become elements."""
    read = _Reader(to_html(el("p", HOSTILE, title=HOSTILE), _as_is))
    assert read.tags == ["p"]
    assert read.text == HOSTILE
    assert read.values == [HOSTILE]


def test_text_that_reorders_a_line_is_spelled_out() -> None:
    """Bidirectional controls and line feeds are visible, and a text of 10,000 characters is cut."""
    assert el("p", "a\u202eb\nc").children == ("a\\u202eb\\nc",)
    (long,) = el("p", "x" * 10_000).children
    assert isinstance(long, str)
    assert (len(long), long[-1]) == (400, "…")


@pytest.mark.parametrize("name", ["p", "title"])
def test_no_address_is_shown(name: str) -> None:
    """Mail addresses are shortened in every text and in every attribute."""
    said = "to alice.smith@example.com, or <bob@example.com>"
    shown = to_html(el(name, said, data_user=said), _as_is)
    assert "alice.smith" not in shown
    assert "bob" not in shown
    assert shown.count("a…@example.com") == 2


def test_times_are_spelled_for_the_reader() -> None:
    """A time carries its moment, and reads as the reader's time zone has it."""
    html = to_html(el("p", moment("2026-11-30T20:57:19Z", "from_now"), moment(None)), _as_is)
    assert html.count("<time") == 1
    assert "from_now 2026-11-30T20:57:19Z</time>" in html


IDS = st.sampled_from("abcdefgh")
WORDS = st.lists(st.sampled_from(["one", "two", "three"]), max_size=2)


def _part(name: str, words: list[str], class_: str | None) -> Element:
    return el("p", *words, id=name, class_=class_)


def _section(name: str, parts: dict[str, tuple[list[str], str | None]]) -> Element:
    return el("div", *(_part(name + key, *facts) for key, facts in parts.items()), id=name)


PARTS = st.dictionaries(IDS, st.tuples(WORDS, st.sampled_from([None, "x"])), max_size=5)
PAGES = st.dictionaries(IDS, PARTS, max_size=5).map(
    lambda sections: el("main", *(_section(name, parts) for name, parts in sections.items()), id="main")
)


class Browser:
    """Does what page.js does with changes, on nested lists."""

    def __init__(self, tree: Element) -> None:
        self.tree: Any = msgspec.json.decode(msgspec.json.encode(tree))

    def apply(self, found: list[list[Any]]) -> None:
        """Make these changes."""
        for what, key, part in msgspec.json.decode(msgspec.json.encode(found)):
            place = self._find(self.tree, key)
            if what == "set":
                place[:] = part
            else:
                known = {child[1]["id"]: child for child in place[2]}
                place[2] = [known[one] if isinstance(one, str) else one for one in part]

    def _find(self, node: Any, key: str) -> Any:
        if isinstance(node, str):
            return None
        if node[1].get("id") == key:
            return node
        return next((found for child in node[2] if (found := self._find(child, key))), None)


@given(PAGES, PAGES)
def test_changes_make_the_new_page_of_the_old_one(old: Element, new: Element) -> None:
    """A browser that has one content and applies the changes has the other."""
    browser = Browser(old)
    browser.apply(changes(old, new))
    assert browser.tree == Browser(new).tree


def test_only_what_differs_is_sent() -> None:
    """If one part of two hundred changes, one part is sent; if one leaves, only the order of ids."""

    def page(*words: str) -> Element:
        rows: list[Child] = [el("li", f"row {word}", id=f"r{place}") for place, word in enumerate(words)]
        return el("ol", *rows, id="rows")

    words = [str(number) for number in range(200)]
    assert changes(page(*words), page(*words)) == []
    found = changes(page(*words), page(*words[:7], "new", *words[8:]))
    assert [(what, key) for what, key, _ in found] == [("set", "r7")]
    ((what, key, order),) = changes(page(*words), page(*words[:-1]))
    assert (what, key) == ("list", "rows")
    assert all(isinstance(one, str) for one in order)
