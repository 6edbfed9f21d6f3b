"""GPUs that are promised for later: a list on the page about now, and a calendar below the time line."""

from collections.abc import Mapping, Sequence
from typing import Any

from canhazgpu.cli.web.markup import Child, Element, el, moment, text
from canhazgpu.cli.web.pages.charts import svg
from canhazgpu.cli.web.pages.periods import Period, axis, bar, coming
from canhazgpu.cli.web.pages.violations import table
from canhazgpu.events.spelling.gpu_numbers import place_of, spell_gpu
from canhazgpu.events.spelling.gpu_ranges import name_gpus
from canhazgpu.events.timestamps import ms_of

FEED = "/bookings.ics"
MOST_LISTED = 3  # On the page about now, which is not to be larger than 100 kB with 64 GPUs.
MOST_DRAWN = 100
MOST_ROWS = 50
LONGEST_NOTE, LONGEST_TITLE = 80, 40
NAMED = 8  # Users in the name of a row.


def next_bookings(rows: Sequence[dict[str, Any]]) -> list[Element]:
    """Return the list of bookings of the next 24 hours, those that begin first first."""
    title = el("h2", "Next bookings", id="bookings-title")
    if not rows:
        return [title, el("p", "Nothing is booked for the next 24 hours.", id="bookings-none")]
    lines = (_line(one) for one in rows[:MOST_LISTED])
    more = len(rows) - MOST_LISTED
    rest = el("p", el("a", f"{more} more", href="/timeline"), id="bookings-more") if more > 0 else None
    found = [title, el("ul", *lines, id="bookings-list", class_="rows"), rest]
    return [one for one in found if one]


def _line(one: dict[str, Any]) -> Element:
    note = ": ".join(filter(None, [one["label"], one["note"]]))
    return el(
        "li",
        el("strong", one["user"], data_user=one["user"]),
        f" has booked {wanted(one)} from ",
        moment(one["begin"]),
        " to ",
        moment(one["end"]),
        ", ",
        "late: not enough GPUs are free" if one["late"] else moment(one["begin"], "from_now"),
        el("span", text(note, LONGEST_NOTE), class_="note") if note else None,
        id=f"booking-{one['id']}",
        data_user=one["user"],
    )


def wanted(one: dict[str, Any]) -> str:
    """Return the GPUs that a booking names, or how many it is for."""
    if one["gpus"] is not None:
        return name_gpus(one["gpus"])
    return f"{one['count']} GPU{'' if one['count'] == 1 else 's'}"


def booked(rows: Sequence[dict[str, Any]], span: str, now_ms: int, colours: Mapping[str, str]) -> Element:
    """Return the calendar: a row for each GPU that is named, and rows for numbers of GPUs."""
    period = coming(span, now_ms)
    drawn = within(rows, period)[:MOST_DRAWN]
    lines = [_row(name, part, period, colours) for name, part in (*_named(drawn), *_counted(drawn))]
    about = f"Booked for the next {span}" if lines else f"Nothing is booked for the next {span}"
    return el(
        "section",
        el("h2", "Bookings", id="booked-title"),
        el("p", f"{about}. ", el("a", "Subscribe to the calendar", href=FEED), "."),
        el("div", axis(span, period), *lines, class_="timeline") if lines else None,
        _as_table(rows) if rows else None,
        id="booked",
        aria_labelledby="booked-title",
    )


def within(rows: Sequence[dict[str, Any]], period: Period) -> list[dict[str, Any]]:
    """Return the bookings of which a part is in a period."""
    return [one for one in rows if ms_of(one["begin"]) < period[1] and ms_of(one["end"]) > period[0]]


def _named(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for one in rows:
        for index in one["gpus"] or ():
            found.setdefault(index, []).append(one)
    known = sorted((index for index in found if index >= 0), key=place_of)
    gone = [("gone", found[-1])] if -1 in found else []
    return [(f"GPU {spell_gpu(index)}", found[index]) for index in known] + gone


def _counted(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return rows of bookings for the same number of GPUs, of which no two overlap."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for one in sorted(rows, key=lambda row: str(row["begin"])):
        if one["gpus"] is None:
            free = (row for name, row in found if name == wanted(one) and row[-1]["end"] <= one["begin"])
            row = next(free, None)
            if row is None:
                found.append((wanted(one), [one]))
            else:
                row.append(one)
    return found


def _row(name: str, rows: list[dict[str, Any]], period: Period, colours: Mapping[str, str]) -> Element:
    users = sorted({str(one["user"]) for one in rows})
    label = f"{name}: {len(rows)} booking{'s' * (len(rows) > 1)} of {', '.join(users[:NAMED])}"
    bars = (
        bar(
            ms_of(one["begin"]),
            ms_of(one["end"]),
            period,
            f"reservation {colours.get(one['user'])}",
            text(f"{one['user']}: {one['note'] or 'booked'}", LONGEST_TITLE),
        )
        for one in rows
    )
    return el(
        "div", el("span", name), el("div", svg(*bars, class_="reservations", label=label)), class_="row"
    )


def _as_table(rows: Sequence[dict[str, Any]]) -> Element:
    shown: list[tuple[Child, ...]] = [
        (
            one["user"],
            wanted(one),
            moment(one["begin"]),
            moment(one["end"]),
            text(one["note"], LONGEST_NOTE) if one["note"] else "-",
        )
        for one in rows[:MOST_ROWS]
    ]
    more = f", of which the first {MOST_ROWS} are shown" if len(rows) > MOST_ROWS else ""
    return el(
        "details",
        el("summary", f"All {len(rows)} bookings as a table{more}"),
        table(("User", "GPUs", "From", "Until", "Note"), shown),
        id="booked-table",
    )
