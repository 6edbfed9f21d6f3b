"""`canhazgpu status`: print one line for every GPU, or a table."""

from __future__ import annotations

import os
import sys
import time

from canhazgpu.cli.status_lines import coloured, is_shown, line
from canhazgpu.client.connection import WARNED, Client, Refused, Unreachable
from canhazgpu.client.plain_json import indented
from canhazgpu.events.sanitize import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    Lines = Callable[[list[dict[str, Any]]], str]
    Selection = Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]]

WATCH = 2.0
CLEAR = "\x1b[2J\x1b[H"


def show(
    *,
    as_json: bool = False,
    colour: bool = True,
    select: Selection = list,
    lines: Lines | None = None,
    below: Callable[[], str] = str,
) -> None:
    """Print the host's GPUs, or those that `select` returns, and `below`. Raises the errors of the client."""
    gpus = Client().status()
    chosen = select(gpus)
    if as_json:
        sys.stdout.write(indented(chosen) + "\n")
        return
    if chosen:
        sys.stdout.write(lines(chosen) if lines else plain(chosen, colour=colour))
    elif gpus:
        sys.stderr.write("No GPU of this host matches.\n")
    else:
        sys.stderr.write(f"No GPU was found on this host: {_why_none()}\n")
    sys.stdout.write(below())


def plain(gpus: Sequence[dict[str, Any]], *, colour: bool, margin: str = "") -> str:
    """Return one line for each GPU, after `margin`.

    Scripts read them: only a terminal gets colours, even with FORCE_COLOR.
    """
    bright = colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    bright = bright and os.environ.get("TERM") != "dumb"
    shown = filter(is_shown, gpus)
    return "".join(margin + (coloured(gpu) if bright else line(gpu)) + "\n" for gpu in shown)


def _why_none() -> str:
    health = Client().get("/v1/health")
    reason, remedy = (printable(health.get(name) or "", 200) for name in ("stalled", "remedy"))
    return f"{reason}: {remedy}" if reason and remedy else reason or "run `canhazgpu doctor`"


def watch(
    *,
    colour: bool,
    select: Selection = list,
    lines: Lines | None = None,
    below: Callable[[], str] = str,
) -> NoReturn:
    """Refresh the GPUs every WATCH seconds: in place on a terminal, else when a line has changed.

    If the service goes away, wait for it. If it is not reachable at the start, that is an error.
    """
    live, before = sys.stdout.isatty(), ""
    warnings: list[str] = []
    WARNED[:] = [warnings.append]  # Warnings are part of the display.
    client = Client()
    while True:
        warnings.clear()
        try:
            gpus = select(client.status())
            text = (lines(gpus) if lines else plain(gpus, colour=colour)) + below()
            text += "".join(f"Warning: {warning}\n" for warning in warnings)
        except (Unreachable, Refused) as trouble:
            if not before:
                raise
            text = f"The service does not answer: {trouble}\n"
        if live:
            sys.stdout.write("\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J" if before else CLEAR + text)
        elif text != before:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()
        before = text
        time.sleep(WATCH)
