"""The hosts of the fleet: what each has, how many wait, and when it was seen."""

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any
from urllib.parse import quote

from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.now import STATES, State, notice, now_page
from canhazgpu.events.spelling.gpu_counts import spell_counts

FREE = "AVAILABLE"
HEADS = ("Host", "Seen", "GPUs", "Available", "In other states", "Waiting", "Open violations")


def hosts_page(hosts: Sequence[dict[str, Any]], trouble: str, at: str) -> Element:
    """Return a row for each host, as of `at`. Rows are replaced one by one when they change.

    `trouble`: why this is not the current state of all hosts, empty if it is.
    """
    whole, instances = ([found(one["counts"]) for one in hosts] for found in (_whole, _instances))
    current = [not one["away"] for one in hosts]
    free, parts = (sum(one[FREE] for one in compress(of, current)) for of in (whole, instances))
    count = spell_counts(sum(one.total() for one in whole), sum(one.total() for one in instances))
    available = spell_counts(free, parts) if any(instances) else free
    total = f"{len(hosts)} hosts with {count}, of which {available} are available now"
    return el(
        "div",
        notice(State(at=at, trouble=trouble)),
        el("p", total, id="hosts-total"),
        _table([_row(one) for one in hosts]),
        id="hosts",
    )


def _table(rows: Sequence[Element]) -> Element:
    heads = (el("th", head, scope="col") for head in HEADS)
    return el(
        "table",
        el("thead", el("tr", *heads), id="hosts-head"),
        el("tbody", *rows, id="hosts-rows"),
        id="hosts-table",
        class_="list hosts",
    )


def _row(host: dict[str, Any]) -> Element:
    counts = host["counts"]
    whole, instances = _whole(counts), _instances(counts)
    others = [
        f"{of[status]} {kind}{name}"
        for kind, of in (("", whole), ("MIG ", instances))
        for status, name in STATES.items()
        if of[status] and status != FREE
    ]
    cells: tuple[Child, ...] = (
        el("a", host["host"], href=f"/hosts/{quote(host['host'], '')}"),
        el("span", moment(host["seen"], "from_now"), f"; away: {host['away']}" if host["away"] else None),
        _both(whole.total(), instances.total(), instances),
        _both(whole[FREE], instances[FREE], instances),
        ", ".join(others) or "none",
        str(counts["waiting"]),
        str(counts["violations"]),
    )
    shown = (el("td", cell, data_head=head) for head, cell in zip(HEADS, cells, strict=True))
    return el("tr", *shown, id=f"host-{host['host']}", class_="away" if host["away"] else None)


def _whole(counts: dict[str, Any]) -> Counter[str]:
    """Return how many GPUs that are not divided are in each state; an older service counts all of them."""
    return Counter(counts.get("whole", counts["gpus"]))


def _instances(counts: dict[str, Any]) -> Counter[str]:
    return Counter(counts.get("instances", {}))


def _both(whole: int, instances: int, has: Counter[str]) -> str:
    return f"{whole} + {instances} MIG" if has else str(whole)


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
