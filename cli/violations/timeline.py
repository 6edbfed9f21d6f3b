"""Human-readable output about one violation: its facts and its history."""

from typing import Any

from canhazgpu.cli.local_times import local
from canhazgpu.cli.output import table
from canhazgpu.events.durations import spell_length
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

SENTENCE = 400
SHOWN = 10  # Processes listed; the rest are counted.


def head(row: dict[str, Any]) -> str:
    """Return the facts of a violation, one per line."""
    uid = "" if row["uid"] is None else f" (uid {row['uid']})"
    ended = f"{local(row['closed'])} ({printable(row['reason'] or '')})" if row["closed"] else "ongoing"
    facts = {
        "Violation": printable(row["violation"]),
        "Kind": printable(row["kind"]) + (f" ({printable(row['holder'])} holds it)" if row["holder"] else ""),
        "User": f"{printable(row['user'])}{uid}",
        "Evidence": printable(row["evidence"]),
        "Hint": _hint(row["hint"]),
        "GPU": f"{spell_gpu(row['gpu'])} ({printable(row['gpu_name'])}, {printable(row['gpu_uuid'])})",
        "Since": local(row["since"]),
        "Until": ended,
        "Lasted": spell_length(row["duration_s"] or 0) if row["closed"] else "",
        "Memory": f"{row['memory_mb']}MB, peak {row['peak_memory_mb']}MB"
        if row["peak_memory_mb"]
        else "not reported",
        "Processes": _processes(row["processes"]),
        "Notified": _notification(row),
    }
    return "\n".join(f"{name + ':':<11}{value}" for name, value in facts.items() if value)


def moments(rows: list[dict[str, Any]]) -> str:
    """Return the history, oldest first, as a table."""
    cells = [
        (
            local(row["time"]),
            printable(row["type"].removeprefix("canhazgpu.")),
            printable(row["sentence"], SENTENCE),
        )
        for row in rows
    ]
    return table(("TIME", "EVENT", "WHAT HAPPENED"), cells)


def _hint(hint: dict[str, Any] | None) -> str:
    """Return the hint at the user, if there is one."""
    return f"{printable(hint['user'])}: {printable(hint['source'], LONGEST_WORDS)}" if hint else ""


def _notification(row: dict[str, Any]) -> str:
    words = {
        "reached": f"reached at {local(row['reached_at'] or '')}",
        "unreached": "unreached: no channel could notify them",
        "pending": "pending: a notice is scheduled or being delivered",
        "silenced": "silenced: nobody is notified at the moment",
    }
    if row["told"]:
        return words.get(row["told"], printable(row["told"]))
    return "nobody" if row["person"] else "nobody: it is not proven who it is"


def _processes(processes: list[dict[str, Any]]) -> str:
    names = [f"{process['pid']} ({printable(process['name'])})" for process in processes]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
