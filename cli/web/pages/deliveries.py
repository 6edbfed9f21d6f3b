"""The attempts to deliver notices. Mail addresses are never shown in full, to nobody."""

from typing import Any

from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.violations import PERIODS, choices, table

MOST_ROWS = 500


def deliveries_page(rows: list[dict[str, Any]], since: str) -> Element:
    """Return the attempts of a period, newest first."""
    shown = sorted(rows, key=lambda one: str(one["time"]), reverse=True)[:MOST_ROWS]
    more = f", the last {MOST_ROWS} are shown" if len(rows) > MOST_ROWS else ""
    heads = ("Time", "Notice", "Channel", "Recipient", "Outcome", "Detail")
    return el(
        "div",
        el("nav", choices("/deliveries", "since", PERIODS, since), aria_label="Period"),
        el("p", f"{len(rows)} attempts{more}"),
        table(heads, [_row(one) for one in shown]) if shown else None,
    )


def _row(one: dict[str, Any]) -> tuple[Child, ...]:
    outcome = one["outcome"] if one["attempt"] <= 1 else f"{one['outcome']} (attempt {one['attempt']})"
    return (moment(one["time"]), one["kind"], one["channel"], one["recipient"], outcome, one["detail"])
