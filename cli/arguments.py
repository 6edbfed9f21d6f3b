"""Options shared by the commands that request GPUs: how they are parsed, and how waiting is displayed."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import fail
from canhazgpu.cli.status_lines import foreign
from canhazgpu.client import Client
from canhazgpu.client.reservations import Reservation, obtain
from canhazgpu.events.durations import parse_duration, spell_duration
from canhazgpu.events.sanitize import LONGEST_WORDS, NAME_LIMIT, printable

FOREVER = "forever"  # The meaning of `--wait` without a time.
MOST = 1024
LINE = 1000


def non_empty(text: str | None) -> str | None:
    """Return an option's value. Reject an empty one, and one that is not valid UTF-8."""
    if text is None:
        return None
    if not text.strip():
        raise typer.BadParameter("the value is empty: leave the option out, or give a value")
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = printable(os.fsencode(text))
        raise typer.BadParameter(f"the value is not valid UTF-8: canhazgpu shows it as '{shown}'") from None
    return text


def integer(text: str) -> int:
    """Return the number in plain ASCII digits. Unlike int(), reject `1_0` and `٣`."""
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise typer.BadParameter(f"{printable(text)!r} is not a whole number")
    return int(text)


def _at_most(longest: int) -> Callable[[str | None], str | None]:
    def bounded(text: str | None) -> str | None:
        """Return an option's value. Reject one that is empty or longer than the service accepts."""
        if text is not None and len(text) > longest:
            raise typer.BadParameter(f"it has {len(text)} characters; the limit is {longest}")
        return non_empty(text)

    return bounded


name = _at_most(NAME_LIMIT)
words = _at_most(LONGEST_WORDS)
Gpus = Annotated[
    int | None,
    typer.Option("--gpus", "-g", help="Number of GPUs (default: 1).", metavar="NUMBER", parser=integer),
]
GpuIds = Annotated[
    str | None,
    typer.Option("--gpu-ids", "-G", help="GPU numbers, for example 1,3.", metavar="IDS", callback=non_empty),
]
Wait = Annotated[
    str | None,
    typer.Option(
        "--wait",
        "-w",
        help="Wait for free GPUs; 30m: for at most 30 minutes.",
        metavar="[TIME]",
        callback=non_empty,
    ),
]
NonBlock = Annotated[bool, typer.Option("--nonblock", help="Do not wait, even if the settings say to.")]
Note = Annotated[
    str | None, typer.Option("--note", "-n", help="A short note that other users can see.", callback=words)
]
Label = Annotated[
    str | None,
    typer.Option("--user", "-u", help="Your name on a shared account; shown, not verified.", callback=name),
]


def gpu_selection(gpus: int | None, gpu_ids: str | None) -> dict[str, Any]:
    """Return the part of a request that says which GPUs; exit with a usage error if it is not valid."""
    if gpus is not None and not 1 <= gpus <= MOST:
        fail(f"--gpus: {gpus} is out of range: request 1 or more, as many as `canhazgpu status` lists", USAGE)
    if gpu_ids is None:
        return {"count": gpus or 1}
    named = indices(gpu_ids, "--gpu-ids")
    if gpus not in (None, len(named)):
        fail(f"--gpus is {gpus}, but --gpu-ids names {len(named)}: leave one of them out", USAGE)
    return {"gpus": named}


def surrounding_reservation() -> dict[str, str]:
    """Return the part of a request that names the reservation which this process says it is part of."""
    named = os.environ.get("CANHAZGPU_RESERVATION", "")
    return {"within": named} if re.fullmatch("r[0-9]{1,20}-[0-9]{1,20}", named) else {}


def indices(text: str, option: str) -> list[int]:
    """Return the indices in `1,3`, the value of `option`; exit with a usage error for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):  # noqa: PLR2004 - MOST
        fail(f"{option}: {printable(text)!r} is not a list of GPUs: write it like 1,3", USAGE)
    found = [int(word) for word in words]
    if len(set(found)) != len(found):
        fail(f"{option}: {text} names a GPU twice", USAGE)
    return found


def checked_duration(option: str, text: str) -> str:
    """Return a duration unchanged; exit with a usage error if it is not valid, or shorter than 1 s."""
    if len(text) > LONGEST_WORDS:
        fail(f"{option}: it has {len(text)} characters; the limit is {LONGEST_WORDS}", USAGE)
    try:
        if parse_duration(text) < 1:
            fail(f"{option}: '{text}' is too short: use at least 1s", USAGE)
    except ValueError as error:
        fail(f"{option}: {error}", USAGE)
    return text


def named_gpus(gpu_ids: str | None) -> dict[str, Any]:
    """Return the part of a request that names GPUs, or nothing if none are named."""
    return {} if gpu_ids is None else {"gpus": indices(gpu_ids, "--gpu-ids")}


def without_none(**facts: str | None) -> dict[str, str]:
    """Return the arguments that are not None."""
    return {name: value for name, value in facts.items() if value is not None}


def wait_value(wait: str | None, *, nonblock: bool) -> bool | str | None:
    """Return the `wait` value of a request; None means the service's default."""
    if wait is not None and nonblock:
        fail("--wait and --nonblock cannot be used together", USAGE)
    if nonblock:
        return False
    if wait == FOREVER:
        return True
    return None if wait is None else checked_duration("--wait", wait)


def wait_for_reservation(body: dict[str, Any], wait: bool | str | None) -> Reservation:  # noqa: FBT001 - three meanings
    """Return the reservation; show the position in the queue while waiting."""
    shown = _QueueDisplay()
    try:
        return obtain(Client(), body, wait=wait, progress=shown.queued)
    finally:
        shown.clear()


class _QueueDisplay:
    """Displays the position in the queue: one updated line on a terminal, else one line for each change."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._line = False

    def queued(self, row: dict[str, Any]) -> None:
        from canhazgpu.cli.local_times import CLOCK, MINUTES, SHORT, clock, local  # noqa: PLC0415 - heavy

        since, expected = row["queued"], row["expected"]
        if self._live:  # There is room for one line.
            when = f", expected {clock(expected, since)}" if expected else ""
            text = f"Position {row['position']} since {local(since, SHORT)}{when}, {row['reason']}"
            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[K{printable(foreign(text, LINE), max(10, width - 1))}")
            self._line = True
        else:
            turn = f", expected {local(expected, MINUTES)}" if expected else ""
            text = f"Waiting since {local(since, CLOCK)}, position {row['position']}{turn}: {row['reason']}"
            sys.stderr.write(foreign(text, LINE) + "\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._line = False


def format_gpus(gpus: list[int]) -> str:
    """Return `2 GPU(s): [1, 3]`."""
    return f"{len(gpus)} GPU(s): {gpus}"


def remaining_time(facts: dict[str, Any]) -> str:
    """Return the remaining time of a reservation."""
    return spell_duration(facts["expires_in_s"] or 0)
