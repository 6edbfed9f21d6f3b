"""The hosts of the fleet: what each has, how many wait, and when it was seen."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.now import STATES, State, notice, now_page

HEADS = ("Host", "Seen", "GPUs", "Available", "In other states", "Waiting", "Open violations")


def hosts_page(
    hosts: Sequence[dict[str, Any]], queues: Sequence[dict[str, Any]], trouble: str, at: str
) -> Element:
    """Return a row for each host, as of `at`. Rows are replaced one by one when they change.

    `trouble`: why this is not the current state of all hosts, empty if it is.
    """
    waiting = {one["host"]: len(one["queue"]) for one in queues}
    rows = [_row(one, waiting.get(one["host"], 0)) for one in hosts]
    gpus = [gpu for one in hosts for gpu in one["gpus"]]
    free = sum(gpu["status"] == "AVAILABLE" for one in hosts if not one["away"] for gpu in one["gpus"])
    total = f"{len(hosts)} hosts with {len(gpus)} GPUs, of which {free} are available now"
    return el(
        "div",
        notice(State(at=at, trouble=trouble)),
        el("p", total, id="hosts-total"),
        _table(rows),
        id="hosts",
    )


def _table(rows: Sequence[Element]) -> Element:
    heads = (el("th", head, scope="col") for head in HEADS)
    return el(
        "table",
        el("thead", el("tr", *heads), id="hosts-head"),
        el("tbody", *rows, id="hosts-rows"),
        id="hosts-table",
        class_="list numbers",
    )


def _row(host: dict[str, Any], waiting: int) -> Element:
    gpus = host["gpus"]
    counts = {name: sum(gpu["status"] == status for gpu in gpus) for status, name in STATES.items()}
    free = counts.pop("available")
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    cells: tuple[Child, ...] = (
        el("a", host["host"], href=f"/hosts/{quote(host['host'], '')}"),
        el("span", moment(host["seen"], "from_now"), f"; away: {host['away']}" if host["away"] else None),
        str(len(gpus)),
        str(free),
        others or "none",
        str(waiting),
        str(sum(len(gpu["violations"]) for gpu in gpus)),
    )
    shown = (el("td", cell, data_head=head) for head, cell in zip(HEADS, cells, strict=True))
    return el("tr", *shown, id=f"host-{host['host']}", class_="away" if host["away"] else None)


def host_page(hosts: Sequence[dict[str, Any]], queues: Sequence[dict[str, Any]], trouble: str) -> Element:
    """Return the state of one host as it was copied; `trouble`: why it cannot be read now."""
    if not hosts:
        return el("div", notice(State(trouble=trouble or "the host is not in the fleet any more")), id="host")
    (host, *_), waiting = hosts, [one for queue in queues for one in queue["queue"]]
    state = State(
        host=host["host"],
        gpus=host["gpus"],
        queue=waiting,
        at=host["seen"],
        trouble=trouble or host["away"] or "",
    )
    return el("div", el("h2", state.host, id="host-name"), now_page(state, None), id="host")
