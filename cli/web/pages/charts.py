"""Drawings in SVG without any style of their own: the style sheet colours their classes in both themes."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zlib import crc32

from canhazgpu.cli.reservations.report_charts import PARTS
from canhazgpu.cli.web.history import MOST_GPUS, SAMPLES, Sample
from canhazgpu.cli.web.markup import Child, Element, el

WIDTH, HEIGHT = 1000, 40
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = 8  # Of users in a timeline.
SHADES = 4


def svg(
    *children: Child,
    width: int = WIDTH,
    height: int = HEIGHT,
    class_: str = "chart",
    label: str | None = None,
) -> Element:
    """Return a drawing that is as wide as its place; without a `label`, screen readers skip it."""
    return el(
        "svg",
        *children,
        class_=class_,
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img" if label else None,
        aria_label=label,
        aria_hidden=None if label else "true",
    )


def rect(begin: float, end: float, class_: str, title: str | None = None, height: int = HEIGHT) -> Element:
    """Return a bar between two shares of the width, with a title that is shown on the pointer."""
    return el(
        "rect",
        el("title", title) if title else None,
        x=_short(begin * WIDTH),
        y=0,
        width=_short(max(0.0, end - begin) * WIDTH),
        height=height,
        class_=class_,
    )


def meter(share: float | None, class_: str) -> Element:
    """Return a bar that shows a share from 0 to 1; the text beside it says the number."""
    percent = f"{_short(min(1.0, max(0.0, share or 0.0)) * 100)}%"
    filled = el("rect", width=percent, class_=class_) if share else None
    return el("svg", filled, class_="meter", aria_hidden="true")


@lru_cache(MOST_GPUS)  # It changes every 30 s, and the page more often.
def sparkline(samples: tuple[Sample, ...]) -> Element:
    """Return the history of one GPU; the newest sample is at the right edge."""
    known = [one.utilization for one in samples if one.utilization is not None]
    memory = [one.memory for one in samples if one.memory is not None]
    spans = [
        f"{name} between {min(shares):.0%} and {max(shares):.0%}"
        for name, shares in (("utilisation", known), ("memory", memory))
        if shares
    ]
    label = f"Last 30 minutes: {', '.join(spans) or 'nothing known yet'}"
    return svg(
        _line([one.memory for one in samples], "memory"),
        _line([one.utilization for one in samples], "utilization"),
        width=SAMPLES - 1,
        class_="history",
        label=label,
    )


def _line(shares: Sequence[float | None], class_: str) -> Element | None:
    """Return a line through the known points, in steps from one to the next, because those are short.

    Where something is not known, there is a gap. Points within a level part are left out.
    """
    begin = SAMPLES - len(shares)
    heights = [None if one is None else HEIGHT - 1 - round(one * (HEIGHT - 2)) for one in shares]
    around = zip([None, *heights], heights, [*heights[1:], None], strict=False)
    runs: list[list[tuple[int, int]]] = [[]]
    for place, (before, height, after) in enumerate(around, begin):
        if height is None:
            runs.append([])
        elif not before == height == after:
            runs[-1].append((place, height))
    path = "".join(_steps(run) for run in runs if len(run) > 1)
    return el("path", d=path, class_=class_) if path else None


def _steps(points: Sequence[tuple[int, int]]) -> str:
    (left, top), *_ = points
    steps = "".join(f" {x - left}{y - top:+d}".replace("+", " ") for (left, top), (x, y) in pairwise(points))
    return f"M{left} {top}l{steps}"


def hours_bar(row: dict[str, Any], most: float) -> Element:
    """Return the hours of one row of a report; `most` are the seconds of the whole width."""
    bars, done = [], 0.0
    for field, name, *_ in PARTS:
        if row[field]:
            begin, done = done, done + row[field]
            bars.append(
                rect(begin / most, done / most, name, f"{name}: {row[field] / 3600:.1f} h", height=12)
            )
    return svg(*bars, height=12, class_="hours")


def legend() -> Element:
    """Return what the colours of a report mean."""
    return _legend([(name, name) for _, name, *_ in PARTS])


def legend_of_users(colours: Mapping[str, str]) -> Element:
    """Return which colour is whose."""
    return _legend([(class_, user) for user, class_ in colours.items()])


def _legend(entries: Sequence[tuple[str, str]]) -> Element:
    return el("ul", *(el("li", _swatch(class_), words) for class_, words in entries), class_="legend")


def _swatch(name: str) -> Element:
    return svg(rect(0, 1, name, height=12), height=12, class_="swatch")


def heat_map(week: Sequence[Sequence[float | None]]) -> Element:
    """Return the hours of the week as a table; each cell says its share in words too."""
    heads = (el("th", f"{hour}", scope="col") for hour in range(24))
    rows = [
        el("tr", el("th", day[:3], scope="row", abbr=day), *map(_cell, hours))
        for day, hours in zip(DAYS, week, strict=True)
    ]
    return el(
        "table",
        el("caption", "How many of the GPUs were reserved or used, by hour of the week"),
        el("thead", el("tr", el("td"), *heads)),
        el("tbody", *rows),
        class_="week",
    )


def _cell(share: float | None) -> Element:
    shade = "none" if share is None else str(min(SHADES, -int(-share * SHADES // 1)))
    return el("td", "-" if share is None else f"{share * 100:.0f}", class_=f"shade-{shade}")


def colours_of(users: Iterable[str]) -> dict[str, str]:
    """Return the classes of users' colours: different ones for as many as there are colours.

    A user has the same colour on every page, unless another user of the page has taken it.
    """
    found: dict[str, int] = {}
    for user in users:
        first = crc32(user.encode()) % COLOURS
        order = ((first + step) % COLOURS for step in range(COLOURS))
        found[user] = next((one for one in order if one not in found.values()), first)
    return {user: f"user-{number}" for user, number in found.items()}


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
