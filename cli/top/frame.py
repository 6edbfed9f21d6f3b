"""The lines of `top` for one state, one session and one size. Colours are SGR sequences; nothing else is."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from canhazgpu.cli.display import gpu_table
from canhazgpu.cli.display.booking_table import TITLE, booking_table
from canhazgpu.cli.display.gpu_filter import Choice
from canhazgpu.cli.display.tables import Column, lay_out
from canhazgpu.cli.display.terminal import fit, paint, width_of
from canhazgpu.cli.local_times import CLOCK, local
from canhazgpu.cli.output import own_name
from canhazgpu.cli.status_lines import COLOURS, foreign, holder, is_shown
from canhazgpu.cli.top.feed import SAMPLES, State
from canhazgpu.cli.top.session import FILTERS, SORTS, Session
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_counts import spell_count, spell_request
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.events.spelling.gpu_ranges import spell_ranges

BOLD, DIM, ALARM = "1", "2", "31"
BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " ._-=+*#@"
KEYS = "q quit  h help  f filter  s sort  u user  e extend  r release"
HELP = (
    "f        Show all GPUs, those that are yours, free ones, or those in use without a reservation.",
    "u        Show only one user: their GPUs, reservations, requests, bookings and violations.",
    "s        Sort by GPU, memory, utilisation, temperature, user, or end of the reservation.",
    "e        Extend your manual reservations.",
    "r        Release GPUs that you hold.",
    "arrows   Scroll; so do j, k, page up and page down. g goes to the top.",
    "q        Quit, as Ctrl-C does.",
    "",
    "HISTORY is the utilisation of the card at the last refreshes, the newest on the right.",
    "Press any other key to go back.",
)


def frame(state: State, session: Session, width: int, height: int, *, unicode: bool = True) -> list[str]:
    """Return at most `height` lines, none wider than `width`."""
    head = _head(state, width)
    body = list(HELP) if session.helping else _body(state, session, width, unicode=unicode)
    room = max(0, height - len(head) - 1)
    session.scroll = max(0, min(session.scroll, len(body) - room)) if room else 0
    shown = body[session.scroll : session.scroll + room]
    if session.helping:
        shown = [fit(line, width).rstrip() for line in shown]
    filler = [""] * (room - len(shown))
    return [*head, *shown, *filler, _foot(state, session, width)][:height]


def _head(state: State, width: int) -> list[str]:
    gpus = [gpu for gpu in state.gpus if is_shown(gpu)]
    counts = Counter(gpu_table.STATES[gpu["status"]] for gpu in gpus)
    words = ", ".join(f"{counts[name]} {name}" for name in gpu_table.STATES.values() if counts[name])
    clock = local(state.at, CLOCK)
    title = f"canhazgpu top  {spell_count([gpu['gpu_id'] for gpu in gpus])}: {words}"
    gap = width - width_of(title) - width_of(clock)
    first = f"{title}{' ' * gap}{clock}" if gap > 1 else title
    lines = [paint(fit(first, width).rstrip(), BOLD, colour=True)]
    old = state.waiting or str(state.trouble or "")
    trouble = f"stale since {clock}: {old}" if old else state.warning
    if trouble:
        lines.append(paint(fit(printable(trouble, 500), width).rstrip(), ALARM, colour=True))
    return lines


def _foot(state: State, session: Session, width: int) -> str:
    if session.prompt:
        room = width - width_of(session.answer) - 1
        label = (
            session.prompt if width_of(session.prompt) <= room else f"{session.prompt.partition(' (')[0]}: "
        )
        return fit(
            f"{fit(label, max(0, min(room, width_of(label))))}{printable(session.answer)}_", width
        ).rstrip()
    session.seen = state.number
    said = session.complaint or (state.message if state.number > session.dismissed else "")
    if said:
        return paint(fit(printable(said, 500), width).rstrip(), BOLD, colour=True)
    return paint(fit(_choices(session) + KEYS, width).rstrip(), DIM, colour=True)


def _choices(session: Session) -> str:
    """Return what is chosen, unless it is everything by number."""
    parts = [] if session.filter == FILTERS[0] else [session.filter]
    parts += [f"of {foreign(session.user)}"] if session.user else []
    parts += [] if session.order == SORTS[0] else [f"by {session.order}"]
    return f"[{', '.join(parts)}]  " if parts else ""


def _body(state: State, session: Session, width: int, *, unicode: bool) -> list[str]:
    chosen = _chosen(state, session)
    reservations, waiting, booked, violations = _beside(chosen, state, session)
    lines = _gpus(chosen, state, width, unicode=unicode) if chosen else ["No GPU matches."]
    for title, rows, table in (
        ("Reservations", reservations, _reservations),
        ("Queue", waiting, _queue),
        (TITLE, booked, booking_table),
        ("Open violations", violations, _violations),
    ):
        if rows:
            lines += ["", paint(f"{title}: {len(rows)}", BOLD, colour=True), *table(rows, width)]
    return lines


def _beside(
    chosen: Sequence[dict[str, Any]], state: State, session: Session
) -> tuple[list[dict[str, Any]], ...]:
    """Return the reservations and violations of the chosen GPUs and users, their requests and bookings."""
    mine, user = session.filter == "mine", session.user
    users = [one for one in (user, own_name() if mine else None) if one]
    held = {gpu["reservation"]["id"]: gpu["reservation"] for gpu in chosen if gpu["reservation"]}
    reservations = [
        one for one in held.values() if user in (None, one["user"]) and (not mine or one["id"] in state.own)
    ]
    waiting, booked = ([], []) if session.filter == "unreserved" else (state.queue, state.bookings)
    violations = [one for gpu in chosen for one in gpu["violations"]]
    return (
        sorted(reservations, key=lambda one: one["gpus"]),
        [one for one in waiting if all(one["user"] == name for name in users)],
        [one for one in booked if all(one["user"] == name for name in users)],
        [one for one in violations if all(name in (one["user"], one["holder"]) for name in users)],
    )


def _chosen(state: State, session: Session) -> list[dict[str, Any]]:
    choice = Choice(
        user=session.user,
        free=session.filter == "free",
        own=state.own if session.filter == "mine" else None,
        order=session.order,
    )
    found = choice.of([gpu for gpu in state.gpus if is_shown(gpu)])
    return [gpu for gpu in found if gpu["violations"]] if session.filter == "unreserved" else found


def _gpus(gpus: Sequence[dict[str, Any]], state: State, width: int, *, unicode: bool) -> list[str]:
    def colours(row: int, text: str) -> str:
        return paint(text, COLOURS[gpus[row]["status"]], colour=True)

    columns = [
        Column("GPU", [spell_gpu(gpu["gpu_id"]) for gpu in gpus], right=True),
        Column("STATE", [gpu_table.STATES[gpu["status"]] for gpu in gpus], paint=colours),
        Column("WHO", [gpu_table.who(gpu) for gpu in gpus], least=8),
        Column("GIB", [gpu_table.memory(gpu) for gpu in gpus], right=True, drop=7),
        Column(
            "MEMORY", [gpu_table.bar(gpu_table.fraction(gpu), 10, unicode=unicode) for gpu in gpus], drop=4
        ),
        Column("UTIL", [_value(gpu["utilization_percent"], "%") for gpu in gpus], right=True, drop=6),
        Column(
            "HISTORY",
            [spark(state.samples.get(gpu["uuid"], ()), width, unicode=unicode) for gpu in gpus],
            drop=5,
        ),
        Column("TEMP", [_value(gpu["temperature_c"], "C") for gpu in gpus], right=True, drop=2),
        Column("MODEL", [foreign(gpu["name"]) for gpu in gpus], least=12, drop=1),
        Column("NOTE", [gpu_table.note(gpu) for gpu in gpus], least=16, drop=3),
    ]
    return lay_out(columns, width)


def _value(number: int | None, unit: str) -> str:
    return gpu_table.NOTHING if number is None else f"{number}{unit}"


def spark(samples: Sequence[int | None], width: int, *, unicode: bool = True) -> str:
    """Return the last samples as bars, the newest on the right; on a wide terminal more of them."""
    bars, room = (BARS if unicode else ASCII_BARS), SAMPLES if width > 2 * SAMPLES else SAMPLES // 4
    shown = list(samples)[-room:]
    full = len(bars) - 1
    return "".join(
        " " if one is None else bars[min(full, max(int(one > 0), round(one * full / 100)))] for one in shown
    )


def _reservations(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    columns = [
        Column("WHO", [holder(row) for row in rows], least=8),
        Column("GPUS", [spell_ranges(row["gpus"]) for row in rows]),
        Column("KIND", [foreign(row["kind"]) for row in rows], drop=3),
        Column("SINCE", [gpu_table.moment(row["started"]) for row in rows], drop=2),
        Column("UNTIL", [gpu_table.moment(row["until"]) for row in rows], drop=4),
        Column("NOTE", [_words(row["note"]) for row in rows], least=12, drop=1),
    ]
    return lay_out(columns, width)


def _queue(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    columns = [
        Column("WHO", [holder(row) for row in rows], least=8),
        Column("WANTS", [foreign(spell_request(row)) for row in rows]),
        Column("WAITING", [spell_length(row["waiting_s"]) for row in rows], drop=3),
        Column("EXPECTED", [gpu_table.moment(row["expected"]) for row in rows], drop=2),
        Column("FOR", [_words(row["reason"]) for row in rows], least=16, drop=1),
    ]
    return lay_out(columns, width)


def _violations(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    columns = [
        Column("WHO", [foreign(row["user"]) for row in rows], least=8),
        Column("GPU", [spell_gpu(row["gpu"]) for row in rows], right=True),
        Column("KIND", [foreign(row["kind"]) for row in rows], drop=2),
        Column("SINCE", [gpu_table.moment(row["since"]) for row in rows], drop=3),
        Column("GIB", [gpu_table.gib(row["memory_mb"]) for row in rows], right=True, drop=1),
    ]
    return lay_out(columns, width)


def _words(text: str | None) -> str:
    return foreign(text, LONGEST_WORDS) if text else gpu_table.NOTHING
