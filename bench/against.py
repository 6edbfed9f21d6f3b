"""Compares with another version in one run: `python -m bench.against CHECKOUT [WHAT]`; it has its own .venv.

Idle services are measured side by side, commands and scans in turns, so that a busy moment of the machine
hits both. If CHECKOUT is another copy of the same version, the ratios say how certain the others are. WHAT:
`starts`, `scan`, `instructions` (with valgrind) or `idle`; without it, all of them.
"""

import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import psutil

from bench.host import service
from bench.idle import SETTLE, cpu, memory, processes
from bench.installed import installed
from bench.instructions import per_second

ROUNDS = 60
TURNS, SECONDS = 12, 20
FIGURES = (
    "idle, % of a core",
    "memory of all processes, MB resident",
    "memory of all processes, MB proportional",
)
HERE = Path(__file__).parent.parent
COMMANDS = (  # In this order: what one reserves, the last one releases.
    ["status"],
    ["queue"],
    ["violations"],
    ["reserve", "--help"],
    ["run", "--", "true"],
    ["reserve", "--gpus", "1"],
    ["release"],
)


@contextmanager
def _both(other: Path, provider: str, turn: int = 0) -> Iterator[list[tuple[Path, psutil.Process]]]:
    """Run the service of each checkout, this one's first in the list, and started first in even turns.

    They start at random moments, so that neither always wakes up just before the other and pays for both.
    """
    checkouts = (HERE, other)
    with ExitStack() as stack:
        started = {}
        for which in (1, 0) if turn % 2 else (0, 1):
            folder, daemon = stack.enter_context(service(provider=provider, checkout=checkouts[which]))
            started[which] = folder, psutil.Process(daemon.pid)
            time.sleep(random.random())  # noqa: S311 - of a scan's interval
        yield [started[0], started[1]]


def _idle(other: Path, provider: str) -> Iterator[str]:
    """Measure both side by side: what a wake-up costs varies twofold from one moment to the next."""
    found: list[list[tuple[float, ...]]] = [[], []]
    for turn in range(TURNS):
        with _both(other, provider, turn) as services:
            time.sleep(SETTLE)
            trees = [processes(daemon.pid) for _, daemon in services]
            before, began = [*map(cpu, trees)], time.monotonic()
            time.sleep(SECONDS)
            after, took = [*map(cpu, trees)], time.monotonic() - began
            for rows, tree, was, now in zip(found, trees, before, after, strict=True):
                rows.append((100 * (now - was) / took, *memory(tree)))
    for number, what in enumerate(FIGURES):
        yield _line(f"{provider}: {what}", *([row[number] for row in rows] for rows in found))


def _starts(other: Path) -> Iterator[str]:
    times: dict[str, tuple[list[float], list[float]]] = {
        name: ([], []) for name in ("python -c pass", *map(" ".join, COMMANDS))
    }
    with _both(other, "simulated") as services, installed() as ours, installed(other) as theirs:
        for turn in range(ROUNDS):
            for which in (0, 1) if turn % 2 else (1, 0):
                programs = (ours, theirs)[which]
                environment = os.environ | {"CANHAZGPU_CONFIG": str(services[which][0] / "config.toml")}
                started = [
                    [str(programs / "python"), "-c", "pass"],
                    *([str(programs / "canhazgpu"), *one] for one in COMMANDS),
                ]
                for words, taken in zip(started, times.values(), strict=True):
                    began = time.perf_counter()
                    subprocess.run(words, env=environment, check=True, capture_output=True)
                    taken[which].append(1000 * (time.perf_counter() - began))
    for name, taken in times.items():
        yield _line(f"{name}, ms", *taken)


def _scan(other: Path) -> Iterator[str]:
    found: list[list[tuple[float, ...]]] = [[], []]
    for turn in range(TURNS):
        for which in (0, 1) if turn % 2 else (1, 0):
            checkout = (HERE, other)[which]
            words = [str(checkout / ".venv" / "bin" / "python"), "-m", "bench", "scan"]
            said = subprocess.run(words, cwd=checkout, check=True, capture_output=True, text=True).stdout
            found[which].append(tuple(map(float, re.findall(r"([\d.]+) (?:ms,|kB)", said))))
    for number, what in enumerate(("ms", "kB sent")):
        yield _line(f"unchanged scan, {what}", *([row[number] for row in rows] for rows in found))


def _instructions(other: Path, provider: str) -> Iterator[str]:
    counts = [[per_second(provider, checkout)] for checkout in (HERE, other)]
    yield _line(f"{provider}: idle, million instructions per second", *counts)


def _line(what: str, now: list[float], before: list[float]) -> str:
    medians = [statistics.median(each) for each in (now, before)]
    paired = statistics.median(one / other for one, other in zip(now, before, strict=True))
    ratio = medians[0] / medians[1]
    return f"{what}: {medians[0]:.2f}, before {medians[1]:.2f}: ratio {ratio:.3f}, in pairs {paired:.3f}"


def main() -> None:
    """Print each figure of both, and their ratio."""
    other = Path(sys.argv[1]).resolve()
    parts = {
        "starts": [_starts(other)],
        "scan": [_scan(other)],
        "instructions": [_instructions(other, "simulated"), _instructions(other, "nvml")],
        "idle": [_idle(other, "simulated"), _idle(other, "nvml")],
    }
    for name, lines in parts.items():
        if sys.argv[2:] in ([], [name]):
            for line in chain.from_iterable(lines):
                print(line, flush=True)


main()
