"""The table of `status --long`: one row for each GPU, with the columns that fit."""

from __future__ import annotations

from datetime import UTC, datetime

from canhazgpu.cli.display.gpu_filter import users_without_right
from canhazgpu.cli.display.tables import Column, lay_out
from canhazgpu.cli.display.terminal import paint
from canhazgpu.cli.local_times import DAY, SHORT, local
from canhazgpu.cli.status_lines import COLOURS, foreign, holder, is_shown
from canhazgpu.events.sanitize import LONGEST_WORDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

STATES = {
    "AVAILABLE": "free",
    "IN_USE": "reserved",
    "UNRESERVED": "unreserved",
    "DRAINED": "drained",
    "UNMANAGED": "unmanaged",
    "ERROR": "error",
    "UNKNOWN": "unknown",
    "PARTITIONED": "partitioned",
}
NOTHING = "-"
BAR = 10
TRACE = 0.01  # Less is no part of a bar.
GIB = 1024
SHOWN = 2  # Processes that are listed; the rest are counted.
# The narrower the terminal, the fewer columns: they are left out in this order. GPU, STATE and WHO stay.
DROPPED = ("PROCESSES", "NOTE", "MODEL", "TEMP", "SINCE", "MEMORY", "UTIL", "UNTIL", "GIB")


def gpu_table(
    gpus: Sequence[dict[str, Any]], width: int, *, colour: bool = False, unicode: bool = True
) -> str:
    """Return the lines of the table."""
    gpus = [gpu for gpu in gpus if is_shown(gpu)]
    states = [COLOURS[gpu["status"]] for gpu in gpus]

    def state(row: int, text: str) -> str:
        return paint(text, states[row], colour=colour)

    def named(title: str, cells: list[str], *, least: int = 0, right: bool = False) -> Column:
        drop = DROPPED.index(title) + 1 if title in DROPPED else 0
        return Column(title, cells, least=least, drop=drop, right=right)

    columns = [
        named("GPU", [str(gpu.get("number", gpu["gpu_id"])) for gpu in gpus], right=True),
        Column("STATE", [STATES[gpu["status"]] for gpu in gpus], paint=state),
        named("WHO", [who(gpu) for gpu in gpus], least=8),
        named("GIB", [memory(gpu) for gpu in gpus], right=True),
        named("MEMORY", [bar(fraction(gpu), BAR, unicode=unicode) for gpu in gpus]),
        named("UTIL", [_number(gpu.get("utilization_percent"), "%") for gpu in gpus], right=True),
        named("TEMP", [_number(gpu.get("temperature_c"), "C") for gpu in gpus], right=True),
        named("SINCE", [moment(since(gpu)) for gpu in gpus]),
        named("UNTIL", [moment(until(gpu)) for gpu in gpus]),
        named("MODEL", [foreign(gpu["name"]) for gpu in gpus], least=12),
        named("NOTE", [note(gpu) for gpu in gpus], least=16),
        named("PROCESSES", [processes(gpu) for gpu in gpus], least=20),
    ]
    return "".join(f"{line}\n" for line in lay_out(columns, width))


def who(gpu: dict[str, Any]) -> str:
    """Return the holder, and who uses the GPU without the right to."""
    others = ", ".join(foreign(user) for user in users_without_right(gpu))
    if not gpu["reservation"]:
        return others or NOTHING
    return holder(gpu["reservation"]) + (f" + {others}" if others else "")


def used_mb(gpu: dict[str, Any]) -> int | None:
    """Return the used memory of a GPU, or None if it reports none."""
    if gpu.get("memory_used_mb") is None:
        return int(gpu["memory_mb"]) or None
    return int(gpu["memory_used_mb"])


def fraction(gpu: dict[str, Any]) -> float | None:
    """Return which part of a GPU's memory is used, or None if that is not known."""
    used, total = used_mb(gpu), gpu.get("memory_total_mb")
    return min(1.0, used / total) if used is not None and total else None


def memory(gpu: dict[str, Any]) -> str:
    """Return used and total memory in GiB."""
    used, total = used_mb(gpu), gpu.get("memory_total_mb")
    if used is None:
        return NOTHING
    return f"{used / GIB:.1f}" + (f"/{total / GIB:.1f}" if total else "")


def gib(memory_mb: int | None) -> str:
    """Return an amount of memory in GiB, as in all tables."""
    return f"{memory_mb / GIB:.1f}" if memory_mb else NOTHING


def bar(part: float | None, width: int, *, unicode: bool = True) -> str:
    """Return a bar of which `part` is full; blank if that is not known."""
    if part is None:
        return NOTHING
    full = round(part * width)
    if part >= TRACE:
        full = max(1, full)
    on, off = ("█", "░") if unicode else ("#", ".")
    return on * full + off * (width - full)


def since(gpu: dict[str, Any]) -> str | None:
    """Return since when a GPU is reserved, or used without a reservation."""
    if gpu["reservation"]:
        return str(gpu["reservation"]["started"])
    return min((one["since"] for one in gpu["violations"]), default=None)


def until(gpu: dict[str, Any]) -> str | None:
    """Return until when a GPU is reserved, or None if that has no end."""
    return gpu["reservation"]["until"] if gpu["reservation"] else None


def moment(time: str | None) -> str:
    """Return a time of day, with the date if it is not today."""
    if not time:
        return NOTHING
    today = local(datetime.now(UTC).isoformat(), "%Y-%m-%d")
    return local(time, SHORT if local(time, "%Y-%m-%d") == today else DAY)


def note(gpu: dict[str, Any]) -> str:
    """Return the note of the holder, or the reason of a state."""
    said = gpu["reason"] or (gpu["reservation"] or {}).get("note") or gpu["drained"]
    return foreign(said, LONGEST_WORDS) if said else NOTHING


def processes(gpu: dict[str, Any]) -> str:
    """Return the processes on a GPU."""
    found = [f"{one['pid']} {foreign(one['name'])}" for one in gpu["processes"]]
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "") or NOTHING


def _number(value: int | None, unit: str) -> str:
    return NOTHING if value is None else f"{value}{unit}"
