"""A day or a week on the page: its axis, and where a moment is on it."""

from canhazgpu.cli.web.markup import Element, el, moment
from canhazgpu.cli.web.pages.charts import rect
from canhazgpu.events.timestamps import rfc3339

HOUR_MS = 3_600_000
SPANS = {"day": "day", "week": "week"}
STEPS = {"day": 1, "week": 6}  # Hours of a bar of use.
TICKS = {"day": 8, "week": 7}
HOURS = {"day": 24, "week": 168}
LEAST = 0.001  # Of the width: a short bar is still seen.
Period = tuple[int, int]  # Milliseconds.


def coming(span: str, now_ms: int) -> Period:
    """Return the period that begins with the present hour, or quarter of a day, of UTC."""
    step = STEPS[span] * HOUR_MS
    begin = now_ms // step * step
    return begin, begin + HOURS[span] * HOUR_MS


def axis(span: str, period: Period) -> Element:
    """Return the times below which bars are drawn."""
    count = TICKS[span]
    step = (period[1] - period[0]) // count
    form = "clock" if span == "day" else "day"
    ticks = (el("span", moment(rfc3339(period[0] + step * tick), form)) for tick in range(count))
    return el("div", el("span"), el("div", *ticks, class_="ticks"), class_="row axis")


def share(at_ms: int, period: Period) -> float:
    """Return where a moment is: 0 at the begin of a period, 1 at its end."""
    return (at_ms - period[0]) / (period[1] - period[0])


def bar(begin_ms: int, end_ms: int, period: Period, class_: str, title: str) -> Element | None:
    """Return a bar from one moment to another, or None if the period has no part of it."""
    begin, end = share(begin_ms, period), share(end_ms, period)
    if end <= 0 or begin >= 1:
        return None
    return rect(max(0.0, begin), min(1.0, max(end, begin + LEAST)), class_, title)
