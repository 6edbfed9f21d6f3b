"""How long the tab key takes with an installed wheel; words are asked for as the scripts of the shells do."""

import os
import resource
import statistics
import subprocess
import time

from bench.host import service
from bench.installed import installed

ROUNDS = 15
LIMIT_MS = 300
LINES = (
    "canhazgpu re",
    "canhazgpu admin ",
    "canhazgpu reserve --",
    "canhazgpu reserve --gpu-ids ",
    "canhazgpu release ",
    "canhazgpu violations --user ",
    "canhazgpu violations show ",
    "canhazgpu events --type ",
)


def measure() -> list[str]:
    """Return lines with the median time for each unfinished command line, beside the shortest program."""
    with installed() as programs, service() as (folder, _):
        environment = {
            **os.environ,
            "CANHAZGPU_CONFIG": str(folder / "config.toml"),
            "_CANHAZGPU_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        times: dict[str, list[float]] = {line: [] for line in ("python -c pass", *LINES)}
        busy: dict[str, list[float]] = {line: [] for line in times}
        for _ in range(ROUNDS):  # In turns, so that a busy moment of the machine hits all of them.
            for line, taken in times.items():
                words = ["python", "-c", "pass"] if line.startswith("python") else ["canhazgpu"]
                began, before = time.perf_counter(), _processor()
                subprocess.run(
                    [programs / words[0], *words[1:]],
                    env={**environment, "_TYPER_COMPLETE_ARGS": line},
                    check=False,
                    stdout=subprocess.DEVNULL,
                )
                taken.append(time.perf_counter() - began)
                busy[line].append(_processor() - before)
    middle = {line: statistics.median(taken) * 1000 for line, taken in times.items()}
    work = {line: statistics.median(taken) * 1000 for line, taken in busy.items()}
    slowest = max(middle[line] for line in LINES)
    return [
        *(
            f"{line!r}: {taken:.0f} ms, of the processor {work[line]:.0f} ms"
            for line, taken in middle.items()
        ),
        f"slowest: {slowest:.0f} ms, of at most {LIMIT_MS} ms; load {os.getloadavg()[0]:.0f}",
    ]


def _processor() -> float:
    """Return the seconds of processor time of all programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
