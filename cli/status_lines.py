"""The output lines of `status`. They are a contract: scripts parse them."""

from __future__ import annotations

from canhazgpu.events.durations import spell_duration
from canhazgpu.events.sanitize import LONGEST_WORDS, NAME_LIMIT, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

NO_USE = "no actual usage detected"
UNREPORTED = "memory not reported"
SHOWN = 2  # Processes listed in a line; the rest are counted.
COLOURS = {
    "AVAILABLE": "32",
    "IN_USE": "34",
    "UNRESERVED": "31",
    "ERROR": "35",
    "UNKNOWN": "33",
    "DRAINED": "36",
    "UNMANAGED": "90",
    "PARTITIONED": "90",
}
# Scripts look for these in a line of use without reservation, so they are escaped in text that users wrote.
LOOKED_FOR = {
    "WITHOUT RESERVATION": "WITHOUT\\x20RESERVATION",
    "by user": "by\\x20user",
    " -": "\\x20-",
}


def line(gpu: dict[str, Any]) -> str:
    """Return the line of one GPU, as `/v1/status` describes it."""
    return f"GPU {gpu.get('number', gpu['gpu_id'])}: {_STATES[gpu['status']](gpu)}"


def is_shown(gpu: dict[str, Any]) -> bool:
    """Return whether a GPU has a line: one that is divided is shown as its MIG instances, unless it fails."""
    return not gpu.get("instances") or gpu["status"] in {"ERROR", "UNKNOWN"}


def foreign(text: str, limit: int = NAME_LIMIT) -> str:
    """Return text that a user wrote, escaped so that scripts do not take it for unreserved use."""
    shown = printable(text, limit)
    for words, spelled in LOOKED_FOR.items():
        shown = shown.replace(words, spelled)
    return shown


def coloured(gpu: dict[str, Any]) -> str:
    """Return the same line with a coloured GPU number."""
    head, colon, rest = line(gpu).partition(":")
    return f"\x1b[{COLOURS[gpu['status']]}m{head}{colon}\x1b[0m{rest}"


def _available(gpu: dict[str, Any]) -> str:
    released = gpu.get("released_s")
    when = "never reserved" if released is None else f"last released {spell_duration(released)} ago"
    return f"AVAILABLE ({when}) [validated: {_seen(gpu)}]"


def _seen(gpu: dict[str, Any]) -> str:
    """Return the reading that shows that a GPU is not used."""
    if gpu.get("memory_used_mb", 0) is None:
        return f"no processes, {UNREPORTED}"
    return f"{gpu['memory_mb']}MB used"


def _unmanaged(gpu: dict[str, Any]) -> str:
    reported = gpu.get("memory_used_mb", 0) is not None or _is_reported(gpu["memory_mb"], gpu["processes"])
    return f"{gpu['memory_mb']}MB used" if reported else UNREPORTED


def _unreserved(gpu: dict[str, Any]) -> str:
    users = [foreign(user) for user in gpu["users"]]
    word = "user" if len(users) == 1 else "users"
    after = _draining(gpu) + _silenced(gpu)
    return f"IN USE WITHOUT RESERVATION by {word} {_list(users)} - {_use(gpu)}{after}"


def _draining(gpu: dict[str, Any]) -> str:
    """Return the note that a GPU in use is being drained, and why."""
    return f" (draining: {foreign(gpu['drained'], LONGEST_WORDS)})" if gpu["drained"] else ""


def _use(gpu: dict[str, Any]) -> str:
    processes = gpu["processes"]
    shown = ", ".join(f"PID {process['pid']} ({foreign(process['name'])})" for process in processes[:SHOWN])
    more = len(processes) - SHOWN
    by = shown or "unknown process"
    memory = f"{gpu['memory_mb']}MB " if _is_reported(gpu["memory_mb"], processes) else ""
    return f"{memory}used by {by}" + (f" and {more} more" if more > 0 else "")


def _is_reported(memory_mb: int, processes: Sequence[dict[str, Any]]) -> bool:
    """Return whether the driver reports how much memory is used; without it, the sum is 0."""
    return memory_mb > 0 or any(process["memory_mb"] is not None for process in processes)


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _reserved(gpu: dict[str, Any]) -> str:
    held, others = gpu["reservation"], gpu["others"]
    own = [process for process in gpu["processes"] if process not in others]
    memory = max(0, gpu["memory_mb"] - sum(process["memory_mb"] or 0 for process in others))
    presumed = f", {len(gpu['presumed'])} presumed" if gpu.get("presumed") else ""
    used = own or (gpu["in_use"] and not others)
    seen = f"{len(own)} processes{presumed}"
    seen = f"{memory}MB, {seen}" if _is_reported(memory, own) else f"{seen}, {UNREPORTED}"
    seen = seen if used else NO_USE
    return (
        f"IN USE by {holder(held)} for {spell_duration(held['for_s'])} ({_bound(held)})"
        f" [validated: {seen}]{_draining(gpu)}{_trespass(others)}{_silenced(gpu) if others else ''}"
    )


def holder(held: dict[str, Any]) -> str:
    """Return the name of a user, with their label if they gave one."""
    label = f" ({foreign(held['label'])})" if held["label"] else ""
    return foreign(held["user"]) + label


def _bound(held: dict[str, Any]) -> str:
    if held["lingering_s"] is not None:
        return f"run, ended {spell_duration(held['lingering_s'])} ago, lingering"
    if held["kind"] == "run":
        return f"run, last heartbeat {spell_duration(held['last_heartbeat_s'] or 0)} ago"
    if held["kind"] in {"slurm", "pbs"}:
        return f"{held['kind']}, until the job ends"
    if held["kind"] == "kubernetes":
        return "kubernetes, until the pod ends"
    return f"manual, expires in {spell_duration(held['expires_in_s'] or 0)}"


def _trespass(others: list[dict[str, Any]]) -> str:
    if not others:
        return ""
    users = sorted({foreign(process["user"]) for process in others})
    memory = sum(process["memory_mb"] or 0 for process in others)
    word = "user" if len(users) == 1 else "users"
    return f", also used by {word} {_list(users)} - {_use({'processes': others, 'memory_mb': memory})}"


def _silenced(gpu: dict[str, Any]) -> str:
    """Return the note that a violation is silenced, and for how long. It contains no text from users."""
    left = gpu["silenced_s"]
    return "" if left is None else f" [silenced for {spell_duration(left)}]"


def _broken(gpu: dict[str, Any]) -> str:
    held = gpu["reservation"]
    reserved = f"; reserved by {holder(held)}" if held else ""
    remedy = f": {foreign(gpu['remedy'], LONGEST_WORDS)}" if gpu.get("remedy") else ""
    return f"{gpu['status']} ({foreign(gpu['reason'] or 'unknown', LONGEST_WORDS)}{remedy}{reserved})"


_STATES: dict[str, Callable[[dict[str, Any]], str]] = {
    "AVAILABLE": _available,
    "IN_USE": _reserved,
    "UNRESERVED": _unreserved,
    "DRAINED": lambda gpu: f"DRAINED ({foreign(gpu['reason'], LONGEST_WORDS)}) [validated: {_seen(gpu)}]",
    "UNMANAGED": lambda gpu: f"NOT MANAGED [{_unmanaged(gpu)}]",
    "ERROR": _broken,
    "UNKNOWN": _broken,
    "PARTITIONED": lambda gpu: f"PARTITIONED into {len(gpu['instances'])} MIG instances",
}
