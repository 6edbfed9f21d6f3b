"""The output conventions of commands: one-line errors with exit codes, examples in every help, tables.

And what each of them needs: the client, and the name of who runs it.
"""

from __future__ import annotations

import os
import sys

from canhazgpu.cli.exit_codes import CommandEnded, error_line, exit_code_for
from canhazgpu.client.connection import Client
from canhazgpu.client.plain_json import indented
from canhazgpu.events.sanitize import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

FORMULA = ("=", "+", "-", "@", "\t", "\r")
CELL = 200  # Characters.


def examples(*lines: str) -> str:
    """Return the examples at the end of a command's help, with line breaks preserved."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def fail(message: str, code: int) -> NoReturn:
    """Print a one-line error and exit with `code`, or with what `run` reports for it."""
    sys.stderr.write(error_line(message, code))
    raise CommandEnded(exit_code_for(code))


def client() -> Client:
    """Return the client of this host's service."""
    return Client()


def own_name() -> str:
    """Return the name of the user who runs this command, or their uid."""
    import pwd  # noqa: PLC0415 - few need it

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def print_json(value: Any) -> None:
    """Print `value` as ASCII JSON, so that no text from users reaches a terminal unescaped."""
    sys.stdout.write(indented(value) + "\n")


def csv_cell(value: object) -> str:
    """Return a value for CSV: printable, and not a formula, which a spreadsheet would execute."""
    text = "" if value is None else printable(str(value), CELL)
    return "'" + text if text.startswith(FORMULA) else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of left-aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
