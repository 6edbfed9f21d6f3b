"""Reservations and use of each GPU, over a day or a week, and what is booked for the next one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from canhazgpu.cli.web.markup import Child, Element, el, moment
from canhazgpu.cli.web.pages.bookings import booked, within
from canhazgpu.cli.web.pages.charts import HEIGHT, colours_of, legend_of_users, rect, svg
from canhazgpu.cli.web.pages.periods import HOUR_MS, HOURS, SPANS, STEPS, Period, axis, bar, coming, share
from canhazgpu.cli.web.pages.violations import choices, table
from canhazgpu.events.spelling.gpu_numbers import spell_gpu
from canhazgpu.events.spelling.gpu_ranges import spell_ranges
from canhazgpu.events.timestamps import ms_of, rfc3339

ABOUT = "Above: who had reserved the GPU. Below: how much of the time it was used, and violations in red."
MOST_BLOCKS = 400  # Of one GPU.
MOST_USERS = 40  # In the legend.
USED = ("active_s", "idle_s", "unreserved_s", "trespass_s")


class Bucket(Struct, frozen=True):
    """A part of the period, with the rows of its report: GPU-seconds by GPU."""

    begin_ms: int
    end_ms: int
    rows: list[dict[str, Any]]


class Block(Struct, frozen=True, kw_only=True):
    """A reservation or a violation, as long as the period has it. `end_ms`: None if it goes on."""

    gpus: tuple[int, ...]
    user: str
    what: str
    begin_ms: int
    end_ms: int | None


def buckets_of(span: str, now_ms: int) -> list[Period]:
    """Return the parts of the period until now, in whole hours of UTC."""
    step = STEPS[span] * HOUR_MS
    end = -(-now_ms // step) * step
    begin = end - HOURS[span] * HOUR_MS
    return [(at, at + step) for at in range(begin, end, step)]


def reserved(live: list[dict[str, Any]], ended: list[dict[str, Any]]) -> list[Block]:
    """Return the blocks of reservations."""
    return [
        Block(
            gpus=tuple(one["gpus"]),
            user=one["user"],
            what=one["kind"],
            begin_ms=ms_of(one["started"]),
            end_ms=ms_of(one["ended"]) if one.get("ended") else None,
        )
        for one in (*ended, *live)
    ]


def violating(rows: list[dict[str, Any]]) -> list[Block]:
    """Return the blocks of violations."""
    return [
        Block(
            gpus=(one["gpu"],),
            user=one["user"],
            what=one["kind"],
            begin_ms=ms_of(one["since"]),
            end_ms=ms_of(one["closed"]) if one["closed"] else None,
        )
        for one in rows
    ]


def timeline_page(
    span: str,
    now_ms: int,
    *,
    gpus: list[dict[str, Any]],
    reservations: Sequence[Block],
    violations: Sequence[Block],
    use: Sequence[Bucket],
    bookings: Sequence[dict[str, Any]],
) -> Element:
    """Return the time line of each GPU, and the calendar of what is booked."""
    parts = buckets_of(span, now_ms)
    period = (parts[0][0], parts[-1][1])
    later = {str(one["user"]) for one in within(bookings, coming(span, now_ms))}
    colours = colours_of(sorted(_users(reservations, period) | later))
    rows = (_gpu(gpu, period, now_ms, reservations, violations, use, colours) for gpu in gpus)
    return el(
        "div",
        el("nav", choices("/timeline", "span", SPANS, span), aria_label="Period"),
        el("p", ABOUT),
        legend_of_users(dict(list(colours.items())[:MOST_USERS])),
        el("div", axis(span, period), *rows, class_="timeline"),
        _as_table(reservations, period),
        booked(bookings, span, now_ms, colours),
    )


def _users(reservations: Sequence[Block], period: Period) -> set[str]:
    return {one.user for one in reservations if one.end_ms is None or one.end_ms > period[0]}


def _gpu(  # noqa: PLR0917 - each is a part of the row
    gpu: dict[str, Any],
    period: Period,
    now_ms: int,
    reservations: Sequence[Block],
    violations: Sequence[Block],
    use: Sequence[Bucket],
    colours: Mapping[str, str],
) -> Element:
    index = gpu["gpu_id"]
    held = [one for one in reservations if index in one.gpus][-MOST_BLOCKS:]
    broken = [one for one in violations if index in one.gpus][-MOST_BLOCKS:]
    drawn = [_block(one, period, now_ms, f"reservation {colours.get(one.user)}") for one in held]
    bars = [_use(bucket, gpu["uuid"], period) for bucket in use]
    marks = [_block(one, period, now_ms, "violation") for one in broken]
    users = sorted({one.user for one in held})
    label = f"GPU {spell_gpu(index)}: {len(held)} reservations"
    label += f" of {', '.join(users[:8])}" if users else ""
    label += f", {len(broken)} violations"
    return el(
        "div",
        el("span", f"GPU {spell_gpu(index)}"),
        el("div", svg(*drawn, class_="reservations", label=label), svg(*bars, *marks, class_="use")),
        class_="row",
    )


def _block(block: Block, period: Period, now_ms: int, class_: str) -> Element | None:
    return bar(block.begin_ms, block.end_ms or now_ms, period, class_, f"{block.user}: {block.what}")


def _use(bucket: Bucket, uuid: str, period: Period) -> Element | None:
    row = next((one for one in bucket.rows if one["key"] == uuid), None)
    part = sum(row[name] for name in USED) * 1000 / (bucket.end_ms - bucket.begin_ms) if row else 0
    if part <= 0 or row is None:
        return None
    height = max(1, round(min(1.0, part) * HEIGHT))
    begin, end = share(bucket.begin_ms, period), share(bucket.end_ms, period)
    used = rect(begin, end, "used", f"used {min(1.0, part):.0%} of the time", height)
    return Element(used.tag, {**used.attributes, "y": str(HEIGHT - height)}, used.children)


def _as_table(reservations: Sequence[Block], period: Period) -> Element:
    shown = [one for one in reservations if one.end_ms is None or one.end_ms > period[0]][-MOST_BLOCKS:]
    rows: list[tuple[Child, ...]] = [
        (
            one.user,
            one.what,
            spell_ranges(one.gpus),
            moment(rfc3339(one.begin_ms)),
            moment(rfc3339(one.end_ms)) if one.end_ms else "now",
        )
        for one in reversed(shown)
    ]
    return el(
        "details",
        el("summary", f"{len(rows)} reservations as a table"),
        table(("User", "Kind", "GPUs", "From", "Until"), rows),
    )


def now_ms() -> int:
    """Return the time of this host."""
    return round(datetime.now(UTC).timestamp() * 1000)
