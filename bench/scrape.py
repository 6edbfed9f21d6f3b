"""A scrape of `canhazgpu exporter`: of a host with 8 GPUs, half of them reserved, and of a fleet of 1,000."""

import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from bench.fleet import BUSY, GPUS, RESERVED, copy_of, make_busy, mirror, multiply
from bench.host import service
from bench.idle import cpu, processes
from canhazgpu.client import Client

SCRAPES = 120
APART = 0.25  # Seconds: what was asked less than 0.2 s ago is not asked again.
WARM_UP = 5
HOSTS, ROUNDS, FLEET = 1000, 10, "/metrics/fleet"
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


def _scrape(path: str = "/metrics") -> int:
    link = http.client.HTTPConnection(ADDRESS, timeout=60)
    link.request("GET", path)
    size = len(link.getresponse().read())
    link.close()
    return size


def measure() -> Iterator[str]:
    """Yield the time of a scrape of a host and of a fleet, and the load of the machine."""
    yield from _host()
    yield from _fleet()
    yield f"load {os.getloadavg()[0]:.0f}"


def _fleet() -> Iterator[str]:
    with mirror() as fleet, service(GPUS) as (folder, daemon):
        make_busy(folder)
        multiply(fleet, copy_of(fleet, "bench", BUSY - RESERVED), HOSTS - 1)
        with _exporter(f"{folder}/s") as exporter:
            size, tree = _scrape(FLEET), processes(daemon.pid)
            before, taken = (cpu(tree), cpu([exporter])), []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                _scrape(FLEET)
                taken.append(time.perf_counter() - began)
            spent = ((cpu(tree) - before[0]) / ROUNDS, (cpu([exporter]) - before[1]) / ROUNDS)
            p50 = statistics.median(taken)
            yield (
                f"a scrape of {HOSTS} hosts: at best {min(taken):.2f} s, p50 {p50:.2f} s,"
                f" most {max(taken):.2f} s, {size / 1000:.0f} kB; processor time: service {spent[0]:.2f} s,"
                f" exporter {spent[1]:.2f} s; memory {exporter.memory_info().rss / 1e6:.0f} MB"
            )


@contextmanager
def _exporter(path: str) -> Iterator[psutil.Process]:
    own = {**os.environ, "CANHAZGPU_SOCKET": path}
    words = [sys.executable, "-m", "canhazgpu.cli.main", "exporter", "--listen", ADDRESS]
    with subprocess.Popen(words, env=own, stderr=subprocess.PIPE, text=True) as process:
        if process.stderr:
            process.stderr.readline()
        yield psutil.Process(process.pid)
        process.terminate()


def _host() -> Iterator[str]:
    with service() as (folder, daemon):
        socket = f"{folder}/s"
        own = {**os.environ, "CANHAZGPU_SOCKET": socket}
        command = [sys.executable, "-m", "canhazgpu.cli.main"]
        subprocess.run([*command, "reserve", "--gpus", "4"], env=own, check=True, capture_output=True)
        with _exporter(socket) as exporter:
            watched = [exporter, psutil.Process(daemon.pid)]
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
