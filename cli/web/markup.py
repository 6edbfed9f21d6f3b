"""Elements of a page. They leave as HTML, or as JSON that the script of the page builds; text stays text.

This is the only place that writes HTML. All text goes through `text`, whoever wrote it.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from canhazgpu.events.sanitize import printable
from canhazgpu.service.api.redaction import redact

LONGEST = 400  # Characters of one text,
LONGEST_VALUE = 4000  # and of an attribute: the points of a line are one.
VOID = frozenset({"meta", "link", "br", "input", "hr"})
TIME, STYLE = "time", "style"


class Element(Struct, frozen=True, array_like=True):
    """One element. Its children are elements or text."""

    tag: str
    attributes: dict[str, str] = {}
    children: tuple[Element | str, ...] = ()

    @property
    def id(self) -> str:
        """Its id, empty if it has none."""
        return self.attributes.get("id", "")


Child = Element | str | None
TimeSpeller = Callable[[str, str], str]


def text(words: object, longest: int = LONGEST) -> str:
    """Return words as they are shown: on one line, not longer than `longest`, without mail addresses."""
    shown = str(words)
    return printable(redact(shown) if "@" in shown else shown, longest)


def el(tag: str, *children: Child, **attributes: object) -> Element:
    """Return an element: `class_` is class, `data_user` is data-user; what is None is left out."""
    named = {
        name.strip("_").replace("_", "-"): text(value, LONGEST_VALUE)
        for name, value in attributes.items()
        if value is not None
    }
    return Element(
        tag, named, tuple(text(one) if isinstance(one, str) else one for one in children if one is not None)
    )


def moment(at: str | None, form: str = "at") -> Child:
    """Return a time (RFC 3339) for the reader: `at` is a time of day, `from_now` how far away it is."""
    return el(TIME, datetime=at, data_form=form) if at else None


def to_html(element: Element, spell: TimeSpeller) -> str:
    """Return HTML; `spell` says how times read."""
    pieces: list[str] = []
    _write(element, spell, pieces)
    return "".join(pieces)


def _write(element: Element, spell: TimeSpeller, pieces: list[str]) -> None:
    pieces.append(f"<{element.tag}")
    pieces += [f' {name}="{html.escape(value)}"' for name, value in element.attributes.items()]
    pieces.append(">")
    if element.tag in VOID:
        return
    if element.tag == TIME:
        words = spell(element.attributes["datetime"], element.attributes["data-form"])
        pieces.append(html.escape(words))
    for child in element.children:
        if isinstance(child, str):
            # The style sheet is a file of the package, and no text of anybody.
            pieces.append(child if element.tag == STYLE else html.escape(child))
        else:
            _write(child, spell, pieces)
    pieces.append(f"</{element.tag}>")


def changes(old: Element, new: Element) -> list[list[Any]]:
    """Return what turns `old` into `new`, which have the same id, for the script of the page.

    `["set", id, element]` replaces an element. `["list", id, [...]]` gives it other children: an id is one
    that it has, an element is a new one.
    """
    if old == new:
        return []
    if (old.tag, old.attributes) != (new.tag, new.attributes) or not (_has_ids(old) and _has_ids(new)):
        return [["set", new.id, new]]
    before = {child.id: child for child in old.children if isinstance(child, Element)}
    after = [child for child in new.children if isinstance(child, Element)]
    found: list[list[Any]] = []
    if list(before) != [child.id for child in after]:
        found.append(["list", new.id, [child.id if child.id in before else child for child in after]])
    for child in after:
        if child.id in before:
            found += changes(before[child.id], child)
    return found


def _has_ids(element: Element) -> bool:
    ids = [child.id if isinstance(child, Element) else "" for child in element.children]
    return all(ids) and len(set(ids)) == len(ids)
