"""How an event is printed: one line for people, or JSON."""

import json
import sys
from typing import Any

from canhazgpu.cli.local_times import local
from canhazgpu.events.sanitize import printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu

LONGEST = 160


def print_event(event: dict[str, Any], *, as_json: bool) -> None:
    """Print an event, and flush the output. A gap is text on standard error, unless JSON was asked for."""
    if event["type"] == "canhazgpu.stream.gap" and not as_json:
        _print_gap(event["data"])
        return
    if as_json:
        sys.stdout.write(json.dumps(event) + "\n")
    else:
        kind = printable(event["type"].removeprefix("canhazgpu."))
        told, about = printable(_summary(event["data"]), LONGEST), printable(_subject(event["subject"]))
        sys.stdout.write(f"{local(event['time'])}  {kind:<20}  {about}  {told}\n".rstrip() + "\n")
    sys.stdout.flush()


def _print_gap(gap: dict[str, Any]) -> None:
    count = gap["missing"]
    known = {None: "an unknown number of events are missing", 1: "1 event is missing"}
    said = known.get(count, f"{count} events are missing")
    sys.stdout.flush()
    sys.stderr.write(
        f"canhazgpu: {said} between {printable(gap['after'])} and {printable(gap['before'])}:"
        " they were removed from the stream\n"
    )


def _summary(data: dict[str, Any]) -> str:
    """Return the important values for the human-readable output."""
    names = (
        "user",
        "gpu",
        "gpus",
        "profile",
        "state",
        "in_use",
        "users",
        "memory_mb",
        "reason",
        "kind",
        "stalled_s",
        "duration_s",
    )
    known = ((name, data[name]) for name in names if data.get(name) not in (None, [], ""))
    return " ".join(f"{name}={_spelled(name, value)}" for name, value in known)


def _spelled(name: str, value: object) -> str:
    """Return a value, a GPU as people write it."""
    if isinstance(value, list):
        return ",".join(_spelled(name, one) for one in value)
    return spell_gpu(value) if name in {"gpu", "gpus"} and isinstance(value, int) else str(value)


def _subject(subject: str) -> str:
    kind, _, index = subject.partition("/")
    return f"gpu/{spell_gpu(int(index))}" if kind == "gpu" and index.isdecimal() else subject
