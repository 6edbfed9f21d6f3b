"""The hosts of the fleet: what each has, how many wait, and when it was seen."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.now import STATES, State
from canhazgpu.cli.web.pages.violations import table

HEADS = ("Host", "Seen", "GPUs", "Available", "In other states", "Waiting", "Open violations")


def hosts_page(hosts: Sequence[dict[str, Any]], queues: Sequence[dict[str, Any]]) -> Element:
    """Return a row for each host."""
    waiting = {one["host"]: len(one["queue"]) for one in queues}
    rows = [_row(one, waiting.get(one["host"], 0)) for one in hosts]
    gpus = [gpu for one in hosts for gpu in one["gpus"]]
    free = sum(gpu["status"] == "AVAILABLE" for one in hosts if not one["away"] for gpu in one["gpus"])
    total = f"{len(hosts)} hosts with {len(gpus)} GPUs, of which {free} are available now"
    return el("div", el("p", total), table(HEADS, rows, class_="list numbers") if rows else None)


def _row(host: dict[str, Any], waiting: int) -> tuple[Child, ...]:
    gpus = host["gpus"]
    counts = {name: sum(gpu["status"] == status for gpu in gpus) for status, name in STATES.items()}
    free = counts.pop("available")
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return (
        el("a", host["host"], href=f"/hosts/{quote(host['host'], '')}"),
        el("span", moment(host["seen"], "from_now"), f"; away: {host['away']}" if host["away"] else None),
        str(len(gpus)),
        str(free),
        others or "none",
        str(waiting),
        str(sum(len(gpu["violations"]) for gpu in gpus)),
    )


def host_state(host: dict[str, Any], queue: list[dict[str, Any]]) -> State:
    """Return the state of a host as it was copied."""
    return State(
        host=host["host"], gpus=host["gpus"], queue=queue, at=host["seen"], trouble=host["away"] or ""
    )
