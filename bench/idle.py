"""The daemon while nothing happens: processor and memory, over all its processes."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.host import service

SECONDS = 30
SETTLE = 5
# The least a program can do that asks Redis something once a second.
YARDSTICK = """
import anyio, sys
from redis.asyncio import Redis
async def main():
    redis = Redis(unix_socket_path=sys.argv[1])
    while True:
        await redis.ping()
        await anyio.sleep(1)
anyio.run(main)
"""


def processes(root: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    first = psutil.Process(root)
    return [first, *first.children(recursive=True)]


def cpu(tree: list[psutil.Process]) -> float:
    """Return the seconds of a processor that they have used, to the nanosecond.

    The clock of a process, as clock_getcpuclockid(3) names it: ticks of 10 ms are some percent of the figure.
    """
    return sum(time.clock_gettime(~process.pid << 3 | 2) for process in tree)


def memory(tree: list[psutil.Process]) -> tuple[float, float]:
    """Return resident and proportional memory in MB (10^6 bytes): pages shared count in full, and once."""
    infos = [process.memory_full_info() for process in tree]
    return sum(info.rss for info in infos) / 1e6, sum(info.pss for info in infos) / 1e6


def measure() -> list[str]:
    """Return lines with the daemon's share of one core and its memory, and the yardstick's."""
    return [*_measure("simulated"), *_measure("nvml")]


def _measure(provider: str) -> list[str]:
    with service(provider=provider) as (folder, daemon):
        socket = str(folder / "state" / "redis" / "redis.sock")
        yardstick = subprocess.Popen([sys.executable, "-c", YARDSTICK, socket])
        try:
            time.sleep(SETTLE)
            return [f"{provider}: {line}" for line in _compare(daemon.pid, yardstick.pid)]
        finally:
            yardstick.kill()
            yardstick.wait()


def _compare(daemon: int, yardstick: int) -> list[str]:
    ours, theirs = processes(daemon), processes(yardstick)
    names = ", ".join(f"{Path(process.exe()).name} {process.memory_info().rss / 1e6:.0f}" for process in ours)
    before, began = (cpu(ours), cpu(theirs)), time.monotonic()
    time.sleep(SECONDS)
    took = time.monotonic() - began
    core, least = ((cpu(each) - was) / took * 100 for each, was in zip((ours, theirs), before, strict=True))
    (rss, pss), (least_rss, _) = memory(ours), memory(theirs)
    return [
        (
            f"idle, 8 GPUs, 1 s scan: {core:.2f} % of a core over {took:.0f} s"
            f" (a loop with one PING a second: {least:.2f} %)"
        ),
        (
            f"memory of all its processes: {rss:.0f} MB resident, {pss:.0f} MB proportional ({names});"
            f" the PING loop {least_rss:.0f} MB: ratio {rss / least_rss:.2f}"
        ),
    ]
