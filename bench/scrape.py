"""A scrape of `canhazgpu exporter` on a host with 8 GPUs, half of them reserved: its time and its memory."""

import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from bench.host import service
from bench.idle import cpu
from canhazgpu.client import Client

SCRAPES = 120
APART = 0.25  # Seconds: what was asked less than 0.2 s ago is not asked again.
WARM_UP = 5
ADDRESS = "127.0.0.1:19836"


def _times(act: Callable[[], object]) -> tuple[float, float, float]:
    """Return the shortest time, the median and the 99th percentile in milliseconds."""
    taken = []
    for number in range(WARM_UP + SCRAPES):
        time.sleep(APART)
        began = time.perf_counter()
        act()
        if number >= WARM_UP:
            taken.append((time.perf_counter() - began) * 1000)
    return min(taken), statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]


def _scrape() -> int:
    link = http.client.HTTPConnection(ADDRESS, timeout=10)
    link.request("GET", "/metrics")
    size = len(link.getresponse().read())
    link.close()
    return size


def measure() -> Iterable[str]:
    """Return a line with the time of a scrape, beside that of one answer of the service."""
    with service() as (folder, daemon):
        socket = f"{folder}/s"
        own = {**os.environ, "CANHAZGPU_SOCKET": socket}
        command = [sys.executable, "-m", "canhazgpu.cli.main"]
        subprocess.run([*command, "reserve", "--gpus", "4"], env=own, check=True, capture_output=True)
        with subprocess.Popen(
            [*command, "exporter", "--listen", ADDRESS], env=own, stderr=subprocess.PIPE, text=True
        ) as process:
            if process.stderr:
                process.stderr.readline()
            watched = [psutil.Process(one.pid) for one in (process, daemon)]
            _, status, _ = _times(lambda: Client(socket).status(fresh=False))
            before = [cpu([one]) for one in watched]
            fastest, median, slowest = _times(_scrape)
            spent = [
                (cpu([one]) - then) / (WARM_UP + SCRAPES) * 1000
                for one, then in zip(watched, before, strict=True)
            ]
            yield (
                f"a scrape of 8 GPUs: at best {fastest:.1f} ms, p50 {median:.1f} ms, p99 {slowest:.1f} ms,"
                f" {_scrape() / 1000:.0f} kB;"
                f" processor time: exporter {spent[0]:.1f} ms, service {spent[1]:.1f} ms with its own work;"
                f" memory {watched[0].memory_info().rss / 1e6:.0f} MB;"
                f" GET /v1/status {status:.1f} ms: ratio {median / status:.1f}"
            )
            process.terminate()
