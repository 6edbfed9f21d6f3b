"""Writes down what was seen."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.faults.course import Seen
from bench.faults.matrix import FAULTS
from bench.faults.states import STATES


def line(one: Seen) -> str:
    """Return a cell in a few lines."""
    text = f"{'green' if one.green else 'RED  '} {one.fault} x {one.state} ({one.seconds:.0f} s"
    text += f", back after {one.recovered:.1f} s)" if one.recovered is not None else ")"
    rows = [*(f"  {row}" for row in one.wrong), *(f"  not promised, and so: {row}" for row in one.unpromised)]
    rows += [f"  {row}" for row in one.facts]
    return "\n".join([text, *rows])


def table(seen: Sequence[Seen], seconds: float) -> str:
    """Return each fault's row: in which states it was green, what is promised, what is not."""
    lines = []
    for fault, row in _rows(seen).items():
        lines.append(f"{fault}: {FAULTS[fault].promise}")
        lines += [f"    not promised: {why}" for why in FAULTS[fault].excuses.values()]
        lines += [
            f"    {'green' if one.green else 'RED  '} {state}: {_said(one)}" for state, one in row.items()
        ]
    red = sum(not one.green for one in seen)
    return "\n".join([*lines, f"{len(seen)} cells in {seconds:.0f} s, {red} red"])


def as_json(seen: Sequence[Seen], seconds: float) -> str:
    """Return all for programs."""
    return json.dumps({"seconds": round(seconds), "cells": msgspec.to_builtins(seen)}, indent=1)


def as_markdown(seen: Sequence[Seen], seconds: float) -> str:
    """Return the part of docs/reliability.md that says what was seen."""
    servers = sorted({f"{name} {version}" for one in seen for name, version in one.servers.items()})
    red = sum(not one.green for one in seen)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    commits = " and ".join(dict.fromkeys(one.commit for one in seen))
    ran = f"{len(seen)} cells in {seconds / 60:.0f} minutes, {red} red"
    head = [
        f"Run on {day} at commit {commits} with {', '.join(servers)}: {ran}.",
        "Each cell shows how long after the end of the fault `status` had fresh readings of all GPUs again.",
        "",
        f"| fault | {' | '.join(STATES)} |",
        f"|---|{'---|' * len(STATES)}",
    ]
    rows = _rows(seen)
    head += [
        f"| {name} | {' | '.join(_cell(row.get(state)) for state in STATES)} |" for name, row in rows.items()
    ]
    head += ["", "| fault | promised | not promised, and why |", "|---|---|---|"]
    head += [
        f"| {name} | {FAULTS[name].promise} | {'; '.join(FAULTS[name].excuses.values())} |" for name in rows
    ]
    head += ["", "| state | promised |", "|---|---|"]
    return "\n".join([*head, *(f"| {name} | {state.promise} |" for name, state in STATES.items())])


def keep(path: Path, seen: Iterable[Seen]) -> list[Seen]:
    """Put what was seen into a file, in the place of what it has of the same cells; return all it has."""
    cells = {}
    if path.exists():
        cells = {
            (one.fault, one.state): one for one in msgspec.json.decode(path.read_bytes(), type=list[Seen])
        }
    cells |= {(one.fault, one.state): one for one in seen}
    found = [cells[fault, state] for fault in FAULTS for state in STATES if (fault, state) in cells]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return found


def _rows(seen: Iterable[Seen]) -> Mapping[str, Mapping[str, Seen]]:
    cells = {(one.fault, one.state): one for one in seen}
    rows = {
        fault: {state: cells[fault, state] for state in STATES if (fault, state) in cells} for fault in FAULTS
    }
    return {fault: row for fault, row in rows.items() if row}


def _said(one: Seen) -> str:
    return "; ".join([*one.wrong, *(f"not promised: {text}" for text in one.unpromised), *one.facts])


def _cell(one: Seen | None) -> str:
    if one is None:
        return "not run"
    text = "green" if one.green else "**red**"
    if one.recovered is not None:
        text += f", {one.recovered:.1f} s"
    return text
