"""Compares with another version in one run: `python -m bench.against CHECKOUT [WHAT]`; it has its own .venv.

Idle services are measured in turns, each alone on the same made-up GPUs. Commands and scans take turns too,
so that a busy moment of the machine hits both. WHAT: `starts`, `scan`, `instructions` (with valgrind) or
`idle`; without it, all of them.
"""

import os
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
from bench.idle import SETTLE, YARDSTICK, cpu, memory, processes
from bench.installed import installed
from bench.instructions import per_second

ROUNDS = 60
TURNS, SECONDS = 10, 20
FIGURES = (
    "idle, % of a core",
    "idle, times a loop that sends one PING per second",
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
def _both(other: Path, provider: str) -> Iterator[list[tuple[Path, psutil.Process]]]:
    """Run the service of each checkout, this one's first."""
    with ExitStack() as stack:
        started = []
        for checkout in (HERE, other):
            folder, daemon = stack.enter_context(service(provider=provider, checkout=checkout))
            started.append((folder, psutil.Process(daemon.pid)))
        yield started


@contextmanager
def _awake() -> Iterator[None]:
    """Keep the processors awake: after sleep, a wake-up costs more."""
    busy = ["nice", "-n", "19", sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(["taskset", "-c", str(one), *busy]) for one in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _idle(other: Path, provider: str) -> Iterator[str]:
    """Measure one service at a time, in turns: side by side, the one that wakes up first pays for both.

    What a wake-up costs varies twofold from one turn to the next. The yardstick wakes up beside the service
    as often, so that the ratio of both does not.
    """
    found: list[list[tuple[float, ...]]] = [[], []]
    with _awake():
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                with service(provider=provider, checkout=(HERE, other)[which]) as (folder, daemon):
                    found[which].append(_at_rest(folder, daemon.pid))
    for number, what in enumerate(FIGURES):
        yield _line(f"{provider}: {what}", *([row[number] for row in rows] for rows in found))


def _at_rest(folder: Path, pid: int) -> tuple[float, ...]:
    """Return the FIGURES of a service."""
    socket = str(folder / "state" / "redis" / "redis.sock")
    yardstick = subprocess.Popen([sys.executable, "-c", YARDSTICK, socket])
    try:
        time.sleep(SETTLE)
        tree, least = processes(pid), processes(yardstick.pid)
        before, began = (cpu(tree), cpu(least)), time.monotonic()
        time.sleep(SECONDS)
        used, floor = cpu(tree) - before[0], cpu(least) - before[1]
        return used / (time.monotonic() - began) * 100, used / floor, *memory(tree)
    finally:
        yardstick.kill()
        yardstick.wait()


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
