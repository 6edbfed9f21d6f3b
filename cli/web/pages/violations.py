"""Violations of the last week or month, and the time line of one."""

from typing import Any

from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.spelling import spell_memory
from canhazgpu.events.durations import spell_length
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

PERIODS = {"1d": "day", "7d": "week", "30d": "month"}
MOST_ROWS = 500


def choices(path: str, name: str, options: dict[str, str], chosen: str, keep: str = "") -> Element:
    """Return links that choose one of some options; `keep` is the rest of the query."""
    links = (
        el(
            "li",
            el(
                "a",
                label,
                href=f"{path}?{name}={value}{keep}",
                aria_current="true" if value == chosen else None,
            ),
        )
        for value, label in options.items()
    )
    return el("ul", *links, class_="choices")


def violations_page(rows: list[dict[str, Any]], since: str) -> Element:
    """Return the violations of a period, newest first."""
    shown = rows[::-1][:MOST_ROWS]
    return el(
        "div",
        el("nav", choices("/violations", "since", PERIODS, since), aria_label="Period"),
        el(
            "p",
            f"{len(rows)} violations"
            + (f", the last {MOST_ROWS} are shown" if len(rows) > MOST_ROWS else ""),
        ),
        table(("Since", "User", "GPU", "Kind", "Lasted", "Notified"), [_row(one) for one in shown])
        if rows
        else None,
    )


def table(
    heads: tuple[str, ...], rows: list[tuple[Child, ...]], caption: str | None = None, class_: str = "list"
) -> Element:
    """Return a table; on a narrow screen each row is a block, and each cell says what it is."""
    return el(
        "table",
        el("caption", caption) if caption else None,
        el("thead", el("tr", *(el("th", head, scope="col") for head in heads))),
        el(
            "tbody",
            *(
                el("tr", *(el("td", cell, data_head=head) for head, cell in zip(heads, row, strict=True)))
                for row in rows
            ),
        ),
        class_=class_,
    )


def _row(one: dict[str, Any]) -> tuple[Child, ...]:
    return (
        el("a", moment(one["since"]), href=f"/violations/{one['violation']}"),
        one["user"],
        spell_gpu(one["gpu"]),
        one["kind"] + (f" (reserved by {one['holder']})" if one["holder"] else ""),
        spell_length(one["duration_s"] or 0) if one["closed"] else "ongoing",
        one["told"] or "nobody",
    )


def violation_page(found: dict[str, Any]) -> Element:
    """Return the facts of one violation, and what happened, oldest first."""
    one = found["violation"]
    facts: dict[str, Child] = {
        "User": one["user"],
        "Kind": one["kind"] + (f" (reserved by {one['holder']})" if one["holder"] else ""),
        "Evidence": one["evidence"],
        "Hint": f"{one['hint']['user']}: {one['hint']['source']}" if one["hint"] else None,
        "GPU": f"{spell_gpu(one['gpu'])} ({one['gpu_name']})",
        "Since": moment(one["since"]),
        "Until": moment(one["closed"]) or "ongoing",
        "Memory": f"{spell_memory(one['memory_mb'])}, peak {spell_memory(one['peak_memory_mb'])}"
        if one["peak_memory_mb"]
        else "not reported",
        "Processes": ", ".join(f"{row['pid']} {row['name']}" for row in one["processes"][:12]) or None,
    }
    pairs = [(el("dt", name), el("dd", value)) for name, value in facts.items() if value]
    left = found["left_out"]
    return el(
        "div",
        el("dl", *(part for pair in pairs for part in pair), class_="facts"),
        el("h2", "What happened"),
        el("p", f"{left} entries in the middle are left out.") if left else None,
        el("ol", *map(_moment, found["moments"]), class_="moments"),
    )


def _moment(one: dict[str, Any]) -> Element:
    return el("li", moment(one["time"]), " ", one["sentence"])
