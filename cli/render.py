"""The lines of `status`, to the letter: other people's scripts read them."""

from collections.abc import Callable, Sequence
from typing import Any

from canhazgpu.events.durations import spell_duration
from canhazgpu.events.text import printable

SHOWN = 2  # Processes named in a line; the others are counted.
COLOURS = {"AVAILABLE": "32", "IN_USE": "34", "UNRESERVED": "31", "ERROR": "35", "UNKNOWN": "33"}


def line(gpu: dict[str, Any]) -> str:
    """Return the line of one GPU, as `/v1/status` describes it."""
    return f"GPU {gpu['gpu_id']}: {_STATES[gpu['status']](gpu)}"


def coloured(gpu: dict[str, Any]) -> str:
    """Return the same line with its GPU in colour."""
    head, colon, rest = line(gpu).partition(":")
    return f"\x1b[{COLOURS[gpu['status']]}m{head}{colon}\x1b[0m{rest}"


def _available(gpu: dict[str, Any]) -> str:
    released = gpu.get("released_s")
    when = "never reserved" if released is None else f"last released {spell_duration(released)} ago"
    return f"AVAILABLE ({when}) [validated: {gpu['memory_mb']}MB used]"


def _unreserved(gpu: dict[str, Any]) -> str:
    users = [printable(user) for user in gpu["users"]]
    word = "user" if len(users) == 1 else "users"
    return f"IN USE WITHOUT RESERVATION by {word} {_list(users)} - {_use(gpu)}"


def _use(gpu: dict[str, Any]) -> str:
    processes = gpu["processes"]
    shown = ", ".join(f"PID {process['pid']} ({_name(process)})" for process in processes[:SHOWN])
    more = len(processes) - SHOWN
    by = shown or "unknown process"
    return f"{gpu['memory_mb']}MB used by {by}" + (f" and {more} more" if more > 0 else "")


def _name(process: dict[str, Any]) -> str:
    """Return a process's name without ` -`: scripts take what stands before the last one for the users."""
    return printable(process["name"]).replace(" -", "\\x20-")


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _reserved(gpu: dict[str, Any]) -> str:
    holder = printable((gpu["reservation"] or {}).get("user", "unknown"))
    count = len(gpu["processes"])
    seen = f"{gpu['memory_mb']}MB, {count} processes" if count else "no actual usage detected"
    return f"IN USE by {holder} [validated: {seen}]"


_STATES: dict[str, Callable[[dict[str, Any]], str]] = {
    "AVAILABLE": _available,
    "IN_USE": _reserved,
    "UNRESERVED": _unreserved,
    "ERROR": lambda gpu: f"ERROR ({printable(gpu['reason'] or 'unknown', 200)})",
    "UNKNOWN": lambda gpu: f"UNKNOWN ({printable(gpu['reason'] or 'unknown', 200)})",
}
