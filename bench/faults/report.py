"""Writes down what was seen."""

import dataclasses
import json
from collections.abc import Sequence

from bench.faults.course import Seen


def line(one: Seen) -> str:
    """Return a cell in a few lines."""
    text = f"{'green' if one.green else 'RED  '} {one.fault} x {one.state} ({one.seconds:.0f} s"
    text += f", back after {one.recovered:.1f} s)" if one.recovered is not None else ")"
    rows = [*(f"  {row}" for row in one.wrong), *(f"  not promised, and so: {row}" for row in one.unpromised)]
    rows += [f"  {row}" for row in one.facts]
    return "\n".join([text, *rows])


def table(seen: Sequence[Seen], seconds: float) -> str:
    """Return all."""
    red = sum(not one.green for one in seen)
    return f"{len(seen)} cells in {seconds:.0f} s, {red} red"


def as_json(seen: Sequence[Seen], seconds: float) -> str:
    """Return all for programs."""
    return json.dumps(
        {"seconds": round(seconds), "cells": [dataclasses.asdict(one) for one in seen]}, indent=1
    )


as_markdown = table
