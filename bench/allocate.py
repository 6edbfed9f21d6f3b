"""How fast GPUs are handed out: by the script, beside an empty script of its size, and over the socket."""

import asyncio
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.disk import durable_redis
from bench.host import service
from canhazgpu.config.settings import Settings
from canhazgpu.events.gpu import GpuUsage
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.gpus.observation import observe
from canhazgpu.service.reservations.allocator import RESERVE, AllocationRequest, Allocator
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.policy import AllocationPolicy, host_keys

GPUS = 64
ROUNDS = 1000


def spread(times: Sequence[float]) -> str:
    """Return the middle and the slow end of durations in seconds, and how many that is a second."""
    ordered = sorted(times)
    slow = ordered[int(len(ordered) * 0.99)]
    rate = len(times) / sum(times)
    return f"{rate:.0f}/s, p50 {statistics.median(times) * 1000:.2f} ms, p99 {slow * 1000:.2f} ms"


async def _times(action: Callable[[int], Awaitable[object]]) -> list[float]:
    times = []
    for turn in range(ROUNDS):
        began = time.perf_counter()
        await action(turn)
        times.append(time.perf_counter() - began)
    return times


async def _script(url: str) -> list[str]:
    store = Store(url, "bench")
    allocator, settings = Allocator(Settings(), store), Settings()
    scan = [GpuUsage(index=index, uuid=f"GPU-{index}", name="H100") for index in range(GPUS)]
    await observe(store, scan, 1.0, 60.0)
    ask = AllocationRequest(kind="manual", user="u", uid=1, count=1, duration_ms=3600000)
    order = ReleaseOrder(uid=1, by="u", reason="released")

    async def cycle(turn: int) -> None:
        if turn % GPUS == 0:
            await allocator.release(order, f"release-{turn}")
            await observe(store, scan, 1.0, 60.0)
        await allocator.reserve(ask, f"reserve-{turn}")

    empty = "return 1 --" + "x" * (len(RESERVE.text) - 11)
    names = [*host_keys(store.keys), "canhazgpu:{bench}:operation", *map(store.keys.gpu, range(GPUS))]
    sha = await store.redis.script_load(empty)
    args: list[str | bytes] = ["bench", AllocationPolicy.of(settings).text, "{}"]

    async def nothing(turn: int) -> None:
        del turn
        await store.redis.evalsha(sha, len(names), *names, *args)

    allocations, floor = await _times(cycle), await _times(nothing)
    await store.close()
    ratio = statistics.median(allocations) / statistics.median(floor)
    bare = _by_redis_benchmark(url, ["EVALSHA", sha, str(len(names)), *names, *map(os.fsdecode, args)])
    return [
        f"reserve 1 of {GPUS} GPUs, by the script: {spread(allocations)}",
        f"an empty script of the same size and keys: {spread(floor)}; ratio {ratio:.1f}",
        f"the empty script by redis-benchmark, one connection: {bare}",
    ]


def _by_redis_benchmark(url: str, command: Sequence[str]) -> str:
    tool = shutil.which("redis-benchmark")
    if not tool:
        return "not installed (Debian's redis-tools)"
    words = [tool, "-s", url.removeprefix("unix://"), "-c", "1", "-n", "20000", "-q", *command]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return said.replace("\r", "\n").strip().rpartition(": ")[2]


def by_script() -> list[str]:
    """Return lines about the script, on a Redis that is as durable as the service's own."""
    with durable_redis() as folder:
        return asyncio.run(_script(f"unix://{folder}/r"))


class Link:
    """One connection to a service that stays open."""

    def __init__(self, folder: Path) -> None:
        """Connect to the service of `folder`."""
        self._http = http.client.HTTPConnection("localhost", timeout=60)
        self._http.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._http.sock.connect(str(folder / "s"))

    def post(self, path: str, body: dict[str, object]) -> None:
        """Send a demand and read the answer."""
        self._http.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        self._http.getresponse().read()

    def gpus(self) -> list[dict[str, object]]:
        """Return the GPUs as the last scan saw them."""
        self._http.request("GET", "/v1/status?fresh=0")
        found: list[dict[str, object]] = json.loads(self._http.getresponse().read())
        return found

    def close(self) -> None:
        """Close it."""
        self._http.close()


def by_api() -> list[str]:
    """Return lines about a reservation asked for over the socket: each waits for a scan of its own."""
    with service(GPUS) as (folder, _):
        link = Link(folder)
        times = []
        for turn in range(300):
            if turn % GPUS == 0:
                link.post("/v1/reservations/release", {})
            began = time.perf_counter()
            link.post("/v1/reservations", {"kind": "manual", "wait": False})
            times.append(time.perf_counter() - began)
        link.close()
    return [f"reserve over the socket, one after the other, each with a scan of its own: {spread(times)}"]


def _crowd(folder: Path) -> str:
    """Ask two thousand times at once, fifty at a time, for 64 GPUs."""

    def one(_: int) -> int:
        link = http.client.HTTPConnection("localhost", timeout=60)
        link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.sock.connect(str(folder / "s"))
        link.request("POST", "/v1/reservations", '{"kind": "manual", "wait": false}')
        answer = link.getresponse()
        answer.read()
        link.close()
        return answer.status

    began = time.perf_counter()
    with ThreadPoolExecutor(50) as crowd:
        codes = Counter(crowd.map(one, range(2000)))
    took = time.perf_counter() - began
    said = ", ".join(f"{count} answered {code}" for code, count in sorted(codes.items()))
    return f"2000 requests for {GPUS} GPUs, 50 at a time, a connection each: {took:.1f} s ({said})"


def at_once() -> Iterator[str]:
    """Yield lines about many who ask at once."""
    with service(GPUS) as (folder, _):
        yield _crowd(folder)


def measure() -> Iterator[str]:
    """Yield all of it, as it comes."""
    yield from by_script()
    yield from by_api()
    yield from at_once()
