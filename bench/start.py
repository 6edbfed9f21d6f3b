"""How long a command takes, against the shortest program Python can run."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.host import service

ROUNDS = 40
CANHAZGPU = str(Path(sys.executable).with_name("canhazgpu"))


def _once(command: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure() -> list[str]:
    """Return lines with the median time of `canhazgpu status` and of what it is made of."""
    with service() as (folder, _):
        environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -I -S -c pass": [sys.executable, "-I", "-S", "-c", "pass"],
            "import canhazgpu.cli.main": [sys.executable, "-c", "import canhazgpu.cli.main"],
            "canhazgpu status": [CANHAZGPU, "status"],
            "canhazgpu violations": [CANHAZGPU, "violations"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):  # In turns, so that a busy moment of the machine hits all of them.
            for name, command in commands.items():
                times[name].append(_once(command, environment))
    middle = {name: statistics.median(values) for name, values in times.items()}
    floor = middle["python -c pass"]
    return [f"{name}: {value * 1000:.1f} ms, ratio {value / floor:.2f}" for name, value in middle.items()]
