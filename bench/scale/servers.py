"""The servers of a fleet: one, or a Cluster without replicas."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from redis.exceptions import RedisError

from bench.idle import cpu
from canhazgpu.service.redis_server.server_program import any_server

URL = "CANHAZGPU_FLEET_URL"
SLOTS = 16384
CLUSTER = (
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "2000",
    "--cluster-require-full-coverage",
    "no",
)


class Servers:
    """Real servers on ports of this machine. Those of a Cluster keep their data on disk: one is killed."""

    def __init__(self, folder: Path, count: int) -> None:
        """Start them."""
        self._folder, self._is_cluster = folder, count > 1
        self.ports = [_free_port() for _ in range(count)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for port in self.ports:
            (folder / str(port)).mkdir()
            self.start(port)
        if self._is_cluster:
            self._join()
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.url = f"redis+cluster://{places}" if self._is_cluster else f"redis://{places}"

    def start(self, port: int) -> None:
        """Start one, and wait until it answers."""
        words = [any_server(), "--port", str(port), "--dir", str(self._folder / str(port)), "--save", ""]
        words += [*CLUSTER, "--appendonly", "yes"] if self._is_cluster else []
        self._processes[port] = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        while True:
            try:
                with self.client(port) as client:
                    client.ping()
                    return
            except RedisError:
                time.sleep(0.05)

    def kill(self, port: int) -> None:
        """End one in the middle of whatever it does."""
        self._processes[port].kill()
        self._processes[port].wait()

    def client(self, port: int) -> Any:
        """Return a client for one of them."""
        return Redis(port=port, socket_timeout=10)

    def total(self, section: str, name: str) -> int:
        """Return the sum of a figure that they give of themselves."""
        found = 0
        for port in self.ports:
            with self.client(port) as client:
                found += int(client.info(section)[name])
        return found

    def cpu(self) -> float:
        """Return the seconds of a processor that they have used."""
        return cpu([psutil.Process(one.pid) for one in self._processes.values()])

    def close(self) -> None:
        """End them."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _join(self) -> None:
        for number, port in enumerate(self.ports):
            with self.client(port) as client:
                first, last = SLOTS * number // len(self.ports), SLOTS * (number + 1) // len(self.ports)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                if number:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", self.ports[0])
        while not all(self._is_whole(port) for port in self.ports):
            time.sleep(0.1)

    def _is_whole(self, port: int) -> bool:
        with self.client(port) as client:
            facts = client.execute_command("CLUSTER INFO")
        return bool(facts["cluster_state"] == "ok" and int(facts["cluster_slots_ok"]) == SLOTS)


@contextmanager
def servers(count: int) -> Iterator[Servers]:
    """Run servers; the services that start meanwhile are in their fleet."""
    with tempfile.TemporaryDirectory(prefix="chg-bench-", dir="/tmp") as name:
        made = Servers(Path(name), count)
        os.environ[URL] = made.url
        try:
            yield made
        finally:
            del os.environ[URL]
            made.close()


def _free_port() -> int:
    """Return a port that is free, and the one 10000 above it, too, which a Cluster uses."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + 10000 < 2**16:
                other.bind(("127.0.0.1", port + 10000))
                return port
