"""`canhazgpu status --all` and `find` over 100 and 1000 hosts of 8 GPUs: time and cost."""

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
from redis import Redis

from bench.host import GPU, service
from bench.idle import cpu, processes
from bench.installed import installed
from bench.report import once, peak
from canhazgpu.client import Client
from canhazgpu.events.redis_client.fleet_copy import CopiedState, decode_state, encode_state
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.service.redis_server.server_program import any_server

SIZES = (100, 1000)
GPUS, BUSY, RESERVED, ROUNDS = 8, 6, 4, 5
PROCESS = '[[gpus.processes]]\npid = {pid}\nmemory_mb = 20000\nuser = "user{user}"\nname = "python"\n'
URL = "CANHAZGPU_FLEET_URL"
LONG_MS = 86_400_000  # The copies do not age while it lasts.
ASKED = {"status --all": ["status", "--all"], "find --gpus 4": ["find", "--gpus", "4"]}


@contextmanager
def mirror() -> Iterator[Redis]:
    """Run a Redis for the fleet; the services that start meanwhile are in it."""
    with tempfile.TemporaryDirectory(prefix="chg-bench-", dir="/tmp") as name:
        where = f"{name}/fleet.sock"
        words = [any_server(), "--port", "0", "--unixsocket", where, "--dir", name, "--save", ""]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        os.environ[URL] = f"unix://{where}"
        try:
            with Redis(unix_socket_path=where) as client:
                while not Path(where).exists():
                    time.sleep(0.02)
                yield client
        finally:
            del os.environ[URL]
            server.terminate()
            server.wait()


def make_busy(folder: Path) -> None:
    """Reserve some GPUs, and put processes on these and others."""
    client = Client(str(folder / "s"))
    client.post("/v1/reservations", {"kind": "manual", "gpus": list(range(RESERVED)), "duration": "8h"})
    text = ""
    for index in range(GPUS):
        text += GPU.format(index=index)
        if index < BUSY:
            text += "".join(PROCESS.format(pid=4000 + 10 * index + pid, user=index) for pid in range(2))
    (folder / "gpus.new").write_text(text)
    (folder / "gpus.new").rename(folder / "gpus.toml")
    while sum(gpu["in_use"] for gpu in client.status()) < BUSY:
        time.sleep(0.1)


def copy_of(fleet: Any, host: str, wanted: int) -> CopiedState:
    """Return the copy of a host, once GPUs are reserved and so many violations are open."""
    while True:
        value = fleet.get(Keys(host).fleet_state)
        state = decode_state(value) if value else None
        if state and state.reservations and len(state.open) >= wanted:
            return state
        time.sleep(0.1)


def multiply(fleet: Any, state: CopiedState, count: int) -> None:
    """Put so many hosts into the mirror, each with this state."""
    copy = msgspec.structs.replace(state.copy, interval_ms=LONG_MS)
    value = encode_state(msgspec.structs.replace(state, copy=copy))
    for number in range(count):
        fleet.set(Keys(f"gpu{number:04}").fleet_state, value)


class Latency:
    """How long the service takes to answer somebody else meanwhile."""

    def __init__(self, socket: str) -> None:
        """Ask until it is over."""
        self.seconds: list[float] = []
        self._client, self._over = Client(socket), threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            began = time.perf_counter()
            self._client.status(fresh=False)
            self.seconds.append(time.perf_counter() - began)


def measure() -> Iterator[str]:
    """Yield lines with the time of each command, the size of the mirror, and what others wait for."""
    with installed() as programs, mirror() as fleet, service(GPUS) as (folder, daemon):
        make_busy(folder)
        state = copy_of(fleet, "bench", BUSY - RESERVED)
        environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
        environment.pop(URL)  # It is a setting of the service.
        tree = processes(daemon.pid)
        for count in SIZES:
            multiply(fleet, state, count - 1)
            memory: Any = fleet.info("memory")
            yield f"{count} hosts: the mirror has {memory['used_memory'] / 1e6:.1f} MB"
            for name, words in ASKED.items():
                command: list[str | Path] = [programs / "canhazgpu", *words]
                before, took = cpu(tree), []
                for _ in range(ROUNDS):
                    least = once([programs / "python", "-c", "pass"], environment)[0]
                    took.append((*once(command, environment), least))
                spent = (cpu(tree) - before) / ROUNDS
                with Latency(f"{folder}/s") as others:
                    once(command, environment)
                seconds, own, mb, least = (statistics.median(one[part] for one in took) for part in range(4))
                yield (
                    f"{count} hosts, {name}: {seconds * 1000:.0f} ms (python -c pass: {least * 1000:.0f} ms),"
                    f" CPU of the command {own * 1000:.0f} ms and {mb:.0f} MB,"
                    f" of the service {spent * 1000:.0f} ms; `status` of others meanwhile"
                    f" {statistics.median(others.seconds) * 1000:.0f} ms, at most"
                    f" {max(others.seconds) * 1000:.0f} ms"
                )
        yield f"the service had at most {peak(daemon.pid):.0f} MB"
        words = [str(programs / "canhazgpu"), "status", "--all", "--json"]
        shown = subprocess.run(words, env=environment, capture_output=True, check=True).stdout
        yield f"status --all --json: {len(json.loads(shown))} hosts, {len(shown) / 1e6:.1f} MB"
