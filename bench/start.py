"""How long an installed command takes, against the shortest program its Python can run.

On a busy machine the time depends on what else runs there; the processor time of the command and the service
does so much less, and is shown beside it.
"""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.host import service
from bench.idle import cpu, processes
from bench.installed import installed

ROUNDS = 60
CROWDS = 5
CROWD = 200
GPUS = 64
Words = Sequence[str | Path]


class _Watch:
    """Measures what programs take: seconds, processor seconds of their own, and of the service."""

    def __init__(self, folder: Path, service: int) -> None:
        """Watch the service with this process id, whose settings are in `folder`."""
        self._service = processes(service)
        self._environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
        self.taken: dict[str, list[tuple[float, float, float]]] = {}

    def run(self, name: str, words: Words, times: int = 1) -> None:
        """Start a program so many times at once, wait for all, and keep the figures under `name`."""
        null = subprocess.DEVNULL
        before = self._now()
        started = [
            subprocess.Popen(words, env=self._environment, stdout=null, stderr=null) for _ in range(times)
        ]
        for process in started:
            process.wait()
        taken = [now - was for now, was in zip(self._now(), before, strict=True)]
        self.taken.setdefault(name, []).append((taken[0], taken[1], taken[2]))

    def _now(self) -> tuple[float, float, float]:
        ours = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), ours.ru_utime + ours.ru_stime, cpu(self._service)

    def lines(self) -> Iterator[str]:
        """Yield a line for each name; ratios are to the first one, and medians of rounds."""
        floor = next(iter(self.taken.values()))
        for name, rounds in self.taken.items():
            wall, own, service = (statistics.median(one[part] for one in rounds) * 1000 for part in range(3))
            ratio = _paired(rounds, floor, lambda one: one[0])
            work = _paired(rounds, floor, lambda one: one[1] + one[2])
            yield (
                f"{name}: {wall:.1f} ms, ratio {ratio:.2f}; processor time {own:.1f} ms and"
                f" {service:.1f} of the service, ratio {work:.2f}"
            )


def _paired(
    rounds: Sequence[tuple[float, float, float]],
    floor: Sequence[tuple[float, float, float]],
    figure: Callable[[tuple[float, float, float]], float],
) -> float:
    # The service also scans while the floor is measured, which is not what that one takes.
    return statistics.median(
        figure(one) / figure((empty[0], empty[1], 0)) for one, empty in zip(rounds, floor, strict=True)
    )


def _one_by_one(programs: Path) -> Iterator[str]:
    program, python = programs / "canhazgpu", programs / "python"
    commands: dict[str, Words] = {
        "python -c pass": [python, "-c", "pass"],
        "python -I -S -c pass": [python, "-I", "-S", "-c", "pass"],
        "status": [program, "status"],
        "status --json": [program, "status", "--json"],
        "queue": [program, "queue"],
        "run -- true": [program, "run", "--", "true"],
        "reserve": [program, "reserve"],
        "check": [program, "check"],
        "check --short": [program, "check", "--short"],
        "extend": [program, "extend"],
        "release": [program, "release"],
        "violations": [program, "violations"],
    }
    with service() as (folder, daemon):
        watch = _Watch(folder, daemon.pid)
        for _ in range(ROUNDS):  # In turns, so that a busy moment of the machine hits all of them.
            for name, words in commands.items():
                watch.run(name, words)
    yield from watch.lines()


def _all_at_once(programs: Path) -> Iterator[str]:
    with service(GPUS) as (folder, daemon):
        watch = _Watch(folder, daemon.pid)
        for _ in range(CROWDS):
            watch.run(f"{CROWD} times `python -c pass` at once", [programs / "python", "-c", "pass"], CROWD)
            reserve: Words = [programs / "canhazgpu", "reserve", "--short"]
            watch.run(f"{CROWD} times `reserve` at once for {GPUS} GPUs", reserve, CROWD)
            watch.run("release of them", [programs / "canhazgpu", "release"])
    yield from list(watch.lines())[:2]


def measure() -> Iterator[str]:
    """Yield lines about commands that are started one after the other, and all at once."""
    with installed() as programs:
        yield from _one_by_one(programs)
        yield from _all_at_once(programs)
