"""How commands speak: one line to standard error and an exit code for trouble, examples in every help."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from canhazgpu.client import Client
from canhazgpu.events.text import printable

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3


def examples(*lines: str) -> str:
    """Return the end of a command's help: lines to copy, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on one line, and end with `code`."""
    sys.stderr.write(f"Error: {' '.join(message.split())}\n")
    raise typer.Exit(code)


def client() -> Client:
    """Return the client of this host's service."""
    return Client()


def print_json(value: Any) -> None:
    """Print `value` as JSON in ASCII, so that no foreign text reaches a terminal unescaped."""
    import json  # noqa: PLC0415 - only where it is asked for

    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def utc(moment: str) -> str:
    """Return a moment in RFC 3339, in UTC, as people read it."""
    return printable(f"{moment[:10]} {moment[11:19]} UTC")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of left-aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
