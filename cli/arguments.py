"""Options shared by the commands that request GPUs: how they are parsed, and how waiting is displayed.

What the framework needs is in `options`, and is imported when it is asked for: `arguments.Gpus`.
"""

from __future__ import annotations

import os
import sys
import time

from canhazgpu.cli.exit_codes import USAGE
from canhazgpu.cli.output import fail
from canhazgpu.cli.status_lines import foreign
from canhazgpu.cli.syntax.gpu_list import ALL, MOST, gpu_list, one_gpu
from canhazgpu.client.connection import Client
from canhazgpu.client.reservations import Reservation, obtain
from canhazgpu.events.durations import parse_duration, spell_length
from canhazgpu.events.sanitize import LONGEST_WORDS, printable
from canhazgpu.events.spelling.gpu_numbers import spell_gpu, without_parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from canhazgpu.cli.options import (
        WHICH,
        AllHosts,
        AsJson,
        GpuIds,
        Gpus,
        GpuWords,
        Host,
        Label,
        Mig,
        NonBlock,
        Note,
        Shell,
        Vendor,
        Wait,
        integer,
        name,
        non_empty,
        user_option,
        words,
    )
    from canhazgpu.cli.syntax.gpu_list import GpuNames

__all__ = ["WHICH", "AsJson", "GpuIds", "GpuWords", "Gpus", "Label", "NonBlock", "Note"]  # Of `options`.
__all__ += ["AllHosts", "Host", "Mig", "Shell", "Vendor", "Wait"]
__all__ += ["integer", "name", "non_empty", "user_option", "words"]

FOREVER = "forever"  # The meaning of `--wait` without a time.
LINE = 1000
EXTEND = "canhazgpu extend"
LONGEST_JOB = 1000  # Characters of the id of a scheduler's job.
LONGEST_NUMBER = 20  # Digits of each part of a reservation's id.


def __getattr__(name: str) -> object:
    from canhazgpu.cli import options  # noqa: PLC0415 - it imports the framework

    return getattr(options, name)


def gpu_selection(gpus: int | None, gpu_ids: str | None, mig: str | None = None) -> dict[str, Any]:
    """Return the part of a request that says which GPUs; exit with a usage error if it is not valid."""
    if mig is not None:
        from canhazgpu.events.spelling.mig_profiles import read_profile  # noqa: PLC0415 - few need it

        if gpus is not None or gpu_ids is not None:
            other = "--gpu-ids" if gpus is None else "--gpus"
            fail(f"--mig and {other} cannot be used together: --mig {mig} says how many instances", USAGE)
        profile, count = read_profile(mig)
        return {"count": count, "profile": profile}
    if gpus is not None and not 1 <= gpus <= MOST:
        fail(f"--gpus: {gpus} is out of range: request 1 or more, as many as `canhazgpu status` lists", USAGE)
    if gpu_ids is None:
        return {"count": gpus or 1}
    named = indices(gpu_ids, "--gpu-ids")
    if gpus is not None and (named == ALL or gpus != len(named)):
        said = "says all" if named == ALL else f"names {len(named)}"
        fail(f"--gpus is {gpus}, but --gpu-ids {said}: leave one of them out", USAGE)
    return {"gpus": named}


def surrounding_reservation() -> dict[str, str]:
    """Return the part of a request that says which reservation and which job this process is in."""
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or ""
    plain = job.isascii() and all(letter.isalnum() or letter in "._+-[]" for letter in job)
    found = {}
    if plain and 0 < len(job) <= LONGEST_JOB:
        from canhazgpu.cli.syntax.job_id import job_id  # noqa: PLC0415 - only in a job

        found = {"job": job_id(job)}
    named = os.environ.get("CANHAZGPU_RESERVATION", "")
    parts = named[1:].split("-")
    known = named[:1] == "r" and len(parts) == 2 and all(map(_is_number, parts))  # noqa: PLR2004
    return {"within": named, **found} if known else found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER


def indices(text: str, option: str) -> GpuNames:
    """Return the GPUs in `1,3`, the value of `option`; exit with a usage error for anything else."""
    try:
        return gpu_list(text)
    except ValueError as error:
        return fail(f"{option}: {error}", USAGE)


def chosen_gpus(words: list[str] | None, gpu_ids: str | None) -> GpuNames | None:
    """Return the GPUs that are named as arguments or with --gpu-ids, or None; exit if both do."""
    if not words:
        return None if gpu_ids is None else indices(gpu_ids, "--gpu-ids")
    if gpu_ids is not None:
        fail("the GPUs are named twice: as an argument and with --gpu-ids", USAGE)
    return indices(",".join(words), "GPUS")


def gpus_and_time(words: list[str]) -> tuple[list[str], str | None]:
    """Return the GPUs and the time in the arguments `3 2h`, `2h`, `3`, `0 1 2h` or `2 days`.

    Exits with a usage error if it is not clear which is which; nothing else is checked.
    """
    words = [word[1:] if word[:1] == "+" and _is_duration(word[1:]) else word for word in words]
    for start in range(len(words)):
        time = " ".join(words[start:])
        if _is_duration(time):
            return words[:start], time
    start = next((place for place, word in enumerate(words) if not _is_gpus(word)), len(words))
    if start == len(words) > 1 and ":" not in words[-1]:
        said, together = printable(" ".join(words)), printable(",".join(words))
        hours = f"`{EXTEND} {said}h`"
        fail(f"TIME: '{words[-1]}' has no unit: {hours}, or `{EXTEND} {together}` for these GPUs", USAGE)
    if start == 0 and len(words) > 1 and _is_duration(words[0]) and all(map(_is_gpus, words[1:])):
        fail(f"the time comes last: {EXTEND} {printable(' '.join([*words[1:], words[0]]))}", USAGE)
    if start == 0 and words and not _is_duration(words[0]):
        fail(f"'{printable(' '.join(words))}' is neither GPUs nor a time: {EXTEND} 3 2h", USAGE)
    return words[:start], " ".join(words[start:]) or None


def _is_gpus(text: str) -> bool:
    """Return whether a word is meant as GPUs; they may still be wrong. One colon is a MIG instance."""
    if any(word.count(":") > 1 for word in text.split(",")):
        return False
    numbers = text.replace(",", "").replace("-", "").replace(":", "")
    return (numbers.isascii() and numbers.isdecimal()) or text.lower() == ALL or text[1:].count("-") > 0


def gpu(text: str | None, option: str = "--gpu") -> int | str | None:
    """Return a GPU's index or the beginning of its UUID; exit with a usage error for anything else."""
    try:
        return None if text is None else one_gpu(text)
    except ValueError as error:
        return fail(f"{option}: {error}", USAGE)


def filters(words: dict[str, str | None]) -> dict[str, str]:
    """Return the filters of a request that are set, `gpu` by its index; exit if one is wrong.

    The service finds the GPU whose UUID begins with `gpu`.
    """
    from canhazgpu.service.violations.filters import filters as parse  # noqa: PLC0415 - heavy

    said = without_none(**words)
    card = gpu(said.get("gpu"))
    if card is not None:
        said["gpu"] = str(card)
    try:
        checked = {**said, "gpu": "0"} if isinstance(card, str) else said
        parse(checked, round(time.time() * 1000), lambda name: f"--{name}")
    except ValueError as error:
        fail(str(error), USAGE)
    return said


def typed_option(*names: str) -> str:
    """Return the name of an option that the user typed, or else its first name."""
    used = {word.partition("=")[0] for word in sys.argv}
    return next((name for name in names if name in used), names[0])


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


def _is_duration(text: str) -> bool:
    try:
        return parse_duration(text) >= 0
    except ValueError:
        return False


def gpus_field(named: GpuNames | None) -> dict[str, Any]:
    """Return the part of a request that names GPUs; nothing if all, or none in particular, are meant."""
    return {} if named is None or named == ALL else {"gpus": named}


def noted(note: str | None) -> str | None:
    """Return a note unchanged; exit if `-n 2` was probably meant as a number of GPUs."""
    if note is not None and note.isdecimal() and typed_option("--note", "-n") == "-n":
        fail(f"-n is the note: use --gpus {note} for {note} GPUs, or --note {note}", USAGE)
    return note


def mention_vendor(held: Reservation, asked: str | None) -> None:
    """Say whose GPUs were chosen, if the host has others and nobody said which."""
    chosen = held.chosen_vendor
    if chosen and asked is None and held.is_new:
        other = "amd" if chosen == "NVIDIA" else "nvidia"
        sys.stderr.write(f"These are {chosen} GPUs; --vendor {other} chooses the others\n")


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
            import shutil  # noqa: PLC0415 - slow to import

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
    return f"{len(without_parts(tuple(gpus)))} GPU(s): {numbers(gpus)}"


def numbers(gpus: object) -> str:
    """Return `[1, 3]`, with MIG instances as `0:1`."""
    found = without_parts(tuple(gpus))  # type: ignore[arg-type]
    return f"[{', '.join(map(spell_gpu, found))}]"


def remaining_time(facts: dict[str, Any]) -> str:
    """Return the remaining time of a reservation."""
    return spell_length(facts["expires_in_s"] or 0)
