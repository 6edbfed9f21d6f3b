"""How the GPUs were used in a period: a bar for each user, GPU or day, and the hours of the week."""

from typing import Any

from canhazgpu.cli.reservations.report_charts import PARTS
from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.charts import heat_map, hours_bar, legend
from canhazgpu.cli.web.pages.violations import PERIODS, choices, table
from canhazgpu.cli.web.spelling import spell_hours
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

BY = {"user": "user", "gpu": "GPU", "day": "day"}
MOST_ROWS = 100
SHOWN = ("reserved_s", "active_s", "idle_s", "unused_s", "unreserved_s")


def report_page(found: dict[str, Any], since: str, by: str) -> Element:
    """Return the report."""
    used = [row for row in found["rows"] if any(row[part[0]] for part in PARTS)]
    rows = used if by == "day" else sorted(used, key=_used, reverse=by == "user")
    most = max(map(_used, used), default=1.0)
    lines = [_row(row, by, most) for row in rows[:MOST_ROWS]]
    heads = (
        BY[by].capitalize() if by != "gpu" else "GPU",
        "Hours",
        *(name[:-2].capitalize() for name in SHOWN),
    )
    return el(
        "div",
        el("nav", choices("/report", "since", PERIODS, since, f"&by={by}"), aria_label="Period"),
        el("nav", choices("/report", "by", BY, by, f"&since={since}"), aria_label="A row for each"),
        el("p", _total(found)),
        legend(),
        table(heads, lines, "GPU-hours", "list numbers") if lines else el("p", "No GPU was used."),
        heat_map(found["week"]),
    )


def _used(row: dict[str, Any]) -> float:
    return float(sum(row[part[0]] for part in PARTS))


def _total(found: dict[str, Any]) -> str:
    total = found["total"]
    known = total["reserved_s"] + sum(total[name] for name in ("unreserved_s", "free_s", "out_of_service_s"))
    share = f" ({total['reserved_s'] / known:.0%} of the time that is known)" if known else ""
    return (
        f"{found['gpus']} GPUs, {spell_hours(total['reserved_s'])} reserved{share}, times in {found['zone']}"
    )


def _row(row: dict[str, Any], by: str, most: float) -> tuple[Child, ...]:
    name: Child = row["key"] if row["gpu_id"] is None else f"GPU {spell_gpu(row['gpu_id'])}"
    if by == "day":
        name = moment(row["key"], "day")
    return (name, hours_bar(row, most), *(spell_hours(row[part]) for part in SHOWN))
