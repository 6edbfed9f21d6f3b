"""The state of the host now: a card for each GPU, the queue, the next bookings, and open violations."""

from typing import Any

from msgspec import Struct

from canhazgpu.cli.status_lines import is_shown
from canhazgpu.cli.web.history import History
from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.bookings import next_bookings
from canhazgpu.cli.web.pages.charts import meter, sparkline
from canhazgpu.cli.web.spelling import spell_memory
from canhazgpu.events.spelling.gpu_counts import describe_request, spell_count
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

MAIN = "now"
SHOWN = 12  # Processes listed on a card; the rest are counted.
STATES = {
    "AVAILABLE": "available",
    "IN_USE": "reserved",
    "UNRESERVED": "used without reservation",
    "DRAINED": "drained",
    "UNMANAGED": "not managed",
    "ERROR": "error",
    "UNKNOWN": "unknown",
}


class State(Struct, frozen=True, kw_only=True):
    """The last answers of the service: rows as in the API, and `at`, when they came (RFC 3339).

    `bookings` are those of the next 24 hours.
    `trouble`: why they are not current. `warning`: what the service itself said of them. `fleet`: the host is
    in a fleet that this process may see.
    """

    host: str = ""
    gpus: list[dict[str, Any]] = []
    queue: list[dict[str, Any]] = []
    bookings: list[dict[str, Any]] = []
    at: str | None = None
    trouble: str = ""
    warning: str = ""
    fleet: bool = False


def now_page(state: State, history: History | None) -> Element:
    """Return the content of the page. Parts with an id are replaced one by one when they change.

    Of another host there is no `history`, there are no pages about its violations, and its bookings are not
    known.
    """
    if state.at is None:
        return el("div", notice(state), id=MAIN)
    violations = [(gpu, one) for gpu in state.gpus for one in gpu["violations"]]
    open_violations = _violations(violations, linked=history is not None)
    booked = next_bookings(state.bookings) if history is not None else []
    return el(
        "div",
        notice(state),
        _summary(state, len(violations)),
        el("section", *open_violations, id="violations", aria_labelledby="violations-title"),
        el("section", *_gpus(state, history), id="gpus", aria_labelledby="gpus-title"),
        el("section", *_queue(state.queue), id="queue", aria_labelledby="queue-title"),
        el("section", *booked, id="bookings", aria_labelledby="bookings-title") if booked else None,
        id=MAIN,
    )


def notice(state: State) -> Element:
    """Return the line that says why a state is not current, hidden if it is."""
    words: list[Child] = []
    if state.trouble:
        words = ["This is not the current state: ", state.trouble, "."]
        words += [" It is what was known at ", moment(state.at), "."] if state.at else []
    elif state.warning:
        words = [state.warning, "."]
    return el("p", *words, id="notice", role="status", class_="notice" if words else "notice empty")


def _summary(state: State, violations: int) -> Element:
    gpus = [gpu for gpu in state.gpus if is_shown(gpu)]
    found = {name: sum(gpu["status"] == status for gpu in gpus) for status, name in STATES.items()}
    parts = [f"{count} {name}" for name, count in found.items() if count]
    parts += [f"{len(state.queue)} waiting"] if state.queue else []
    parts += [f"{violations} open violation{'s' if violations > 1 else ''}"] if violations else []
    count = spell_count([gpu["gpu_id"] for gpu in gpus])
    return el("p", f"{count}: {', '.join(parts)}", id="summary")


def _gpus(state: State, history: History | None) -> list[Element]:
    cards = (card(gpu, history) for gpu in state.gpus if is_shown(gpu))
    return [el("h2", "GPUs", id="gpus-title"), el("div", *cards, id="cards", class_="cards")]


def card(gpu: dict[str, Any], history: History | None) -> Element:
    """Return the card of one GPU."""
    key, status = f"gpu-{gpu['gpu_id']}", gpu["status"]
    held = gpu["reservation"]
    return el(
        "article",
        el(
            "h3",
            f"GPU {spell_gpu(gpu['gpu_id'])} ",
            el("span", STATES.get(status, status.lower()), class_="state"),
            id=f"{key}-title",
        ),
        el("p", gpu["name"] or "unknown model", _temperature(gpu), id=f"{key}-model", class_="model"),
        _meters(gpu, key),
        el("div", sparkline(history.of(gpu["uuid"])), id=f"{key}-history") if history else None,
        el("div", *_holder(held), id=f"{key}-holder", class_="holder") if held else None,
        el("p", *_remark(gpu), id=f"{key}-remark", class_="remark") if any(_remark(gpu)) else None,
        _processes(gpu, key),
        id=key,
        class_=f"gpu {status.lower()}",
        aria_labelledby=f"{key}-title",
        data_user=held["user"] if held else ",".join(gpu["users"]) or None,
    )


def _temperature(gpu: dict[str, Any]) -> str | None:
    return None if gpu["temperature_c"] is None else f", {gpu['temperature_c']} °C"


def _meters(gpu: dict[str, Any], key: str) -> Element:
    percent, used, total = gpu["utilization_percent"], gpu["memory_used_mb"], gpu["memory_total_mb"]
    memory = "not reported" if used is None else spell_memory(used)
    memory += f" of {spell_memory(total)}" if used is not None and total else ""
    share = used / total if used is not None and total else None
    return el(
        "dl",
        el("dt", "Utilisation"),
        el(
            "dd",
            "not reported" if percent is None else f"{percent} %",
            meter((percent or 0) / 100, "utilization"),
        ),
        el("dt", "Memory"),
        el("dd", memory, meter(share, "memory")),
        id=f"{key}-meters",
        class_="meters",
    )


def _holder(held: dict[str, Any]) -> list[Child]:
    words = [held["kind"], *([held["label"]] if held["label"] else [])]
    lines: list[Child] = [
        el(
            "p",
            el("strong", held["user"], data_user=held["user"]),
            f" ({', '.join(words)}), since ",
            moment(held["started"]),
        ),
    ]
    if held["until"]:
        lines.append(el("p", "until ", moment(held["until"]), ", ", moment(held["until"], "from_now")))
    elif held["lingering_s"] is not None:
        lines.append(el("p", "has ended, but its GPUs are still in use"))
    else:
        lines.append(el("p", "until it ends"))
    if held["note"]:
        lines.append(el("p", held["note"], class_="note"))
    return lines


def _remark(gpu: dict[str, Any]) -> list[str]:
    words = [f"{gpu['reason']}" if gpu["reason"] else "", f"{gpu['remedy']}" if gpu["remedy"] else ""]
    if gpu["status"] == "UNRESERVED":
        words.append(f"used by {', '.join(gpu['users']) or 'an unknown user'}")
    elif gpu["others"]:
        words.append(f"also used by {', '.join(sorted({one['user'] for one in gpu['others']}))}")
    elif gpu["reservation"] and not gpu["in_use"] and gpu["status"] == "IN_USE":
        words.append("not used at the moment")
    if gpu["drained"] and gpu["drained"] != gpu["reason"]:
        words.append(f"draining: {gpu['drained']}")
    return [": ".join(filter(None, words))]


def _processes(gpu: dict[str, Any], key: str) -> Element | None:
    rows = gpu["processes"]
    if not rows:
        return None
    more = len(rows) - SHOWN
    return el(
        "details",
        el("summary", f"{len(rows)} process{'' if len(rows) == 1 else 'es'}"),
        el(
            "ul",
            *(el("li", f"{one['pid']} {one['name']} ({_used_by(one)})") for one in rows[:SHOWN]),
            el("li", f"and {more} more") if more > 0 else None,
        ),
        id=f"{key}-processes",
    )


def _used_by(process: dict[str, Any]) -> str:
    hint, memory = process["hint"], process["memory_mb"]
    user = f"{process['user']}, perhaps {hint['user']}" if hint else process["user"]
    return user if memory is None else f"{user}, {spell_memory(memory)}"


def _violations(rows: list[tuple[dict[str, Any], dict[str, Any]]], *, linked: bool) -> list[Element]:
    title = el("h2", "Open violations", id="violations-title")
    if not rows:
        return [title, el("p", "None.", id="violations-none")]
    lines = (_violation(gpu, one, linked=linked) for gpu, one in rows)
    return [title, el("ul", *lines, id="violations-list", class_="rows")]


def _violation(gpu: dict[str, Any], one: dict[str, Any], *, linked: bool) -> Element:
    words = f"GPU {spell_gpu(gpu['gpu_id'])}: {one['kind']} by {one['user']}"
    against = f", reserved by {one['holder']}" if one["holder"] else ""
    return el(
        "li",
        el("a", words, href=f"/violations/{one['violation']}") if linked else words,
        f"{against}, since ",
        moment(one["since"]),
        ", silenced until " if one["silenced_until"] else None,
        moment(one["silenced_until"]),
        id=f"violation-{one['violation']}",
        data_user=one["user"],
    )


def _queue(rows: list[dict[str, Any]]) -> list[Element]:
    title = el("h2", "Queue", id="queue-title")
    if not rows:
        return [title, el("p", "Nobody is waiting.", id="queue-none")]
    return [title, el("ol", *map(_request, rows), id="queue-list", class_="rows")]


def _request(one: dict[str, Any]) -> Element:
    note = ": ".join(filter(None, [one["label"], one["note"]]))
    expected: list[Child] = (
        ["expected ", moment(one["expected"]), ", ", moment(one["expected"], "from_now")]
        if one["expected"]
        else ["no time can be expected"]
    )
    return el(
        "li",
        el("strong", one["user"], data_user=one["user"]),
        f" waits for {describe_request(one)}, since ",
        moment(one["queued"]),
        "; ",
        *expected,
        el("span", f"{note}; " if note else "", one["reason"], class_="note"),
        id=f"request-{one['id']}",
        data_user=one["user"],
    )
