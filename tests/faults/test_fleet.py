"""Ten hosts and their mirror while services, the mirror and the network between them fail at random."""

import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from support.daemon import Daemon, gpu, until
from support.dropping_proxy import DroppingProxy
from support.fleet import STREAMS, fleet_server
from support.redis_lab import Server

from canhazgpu.client import Client, Refused, Unreachable
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.stream_ids import place_of

HOSTS = 10
SECONDS = float(os.environ.get("FLEET_FAULTS_SECONDS", "30"))
pytestmark = [pytest.mark.slow(200), pytest.mark.timeout(900 + SECONDS)]
SETTLE = 120.0  # Seconds; a host tries again after at most twenty.
SEED = 16


class Host:
    """A host of the fleet, with callers that reserve and release a GPU."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        """Start its service."""
        settings = f'[fleet]\nurl = "redis://127.0.0.1:{port}"\ninterval = "1s"\n'
        self.daemon = Daemon(folder, settings, host=name, scan="1s")
        self.daemon.place(gpu(0), gpu(1))
        self.name, self.keys, self.folder = name, Keys(name), folder
        self.granted, self.trouble = 0, ""
        self.daemon.start()

    def use(self) -> None:
        """Reserve a GPU and release it, if the service is there, and first what a killed service left."""
        client = Client(str(self.folder / "s"), patience=20.0)
        try:
            left = [one["reservation"]["id"] for one in client.get("/v1/reservations/own")]
            if left:
                client.post("/v1/reservations/release", {"ids": left})
            made = client.post("/v1/reservations", {"kind": "manual", "count": 1, "duration": "1h"})
            self.granted += 1
            client.post("/v1/reservations/release", {"ids": [made["reservation"]["id"]]})
        except (Unreachable, Refused, KeyError) as trouble:
            self.trouble = repr(trouble)
            time.sleep(0.05)  # It starts, or its Redis does.

    def restart(self) -> None:
        """Kill the service in the middle of whatever it does, and start it again."""
        self.daemon.stop(9)
        self.daemon.start()

    def log(self) -> str:
        """Return the end of what its service has logged."""
        return self.daemon.log.read_text()[-4000:]

    def stream(self, name: str) -> Any:
        """Return the entries of one of its streams."""
        with self.daemon.redis() as redis:
            return redis.xrange(self.keys.streams[name])


class Lab:
    """The hosts, their mirror, and the network between them."""

    def __init__(self, resources: ExitStack, folder: Path) -> None:
        """Start all."""
        self.server: Server = resources.enter_context(fleet_server(folder))
        self.proxy = DroppingProxy(self.server.port)
        resources.callback(self.proxy.close)
        self.hosts = []
        for number in range(HOSTS):
            name = f"gpu{number:02}"
            home = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp")))
            host = Host(home, name, self.proxy.port)
            resources.callback(host.daemon.stop)
            self.hosts.append(host)
        self.over = threading.Event()

    def at_work(self, resources: ExitStack) -> None:
        """Let somebody use every host until the lab is over."""
        for host in self.hosts:
            thread = threading.Thread(target=self._use, args=(host,))
            thread.start()
            resources.callback(thread.join)
        resources.callback(self.over.set)

    def _use(self, host: Host) -> None:
        while not self.over.is_set():
            host.use()

    def fail(self, chance: random.Random) -> str:
        """Let something fail, and return what."""
        what = chance.choice(["service", "mirror", "cut", "swallow"])
        if what == "service":
            chance.choice(self.hosts).restart()
        elif what == "mirror":
            self.server.kill()
            self.server.start()
        elif what == "cut":
            self.proxy.cut()
        else:
            self.proxy.swallow()
            time.sleep(chance.uniform(0.1, 7.0))  # The network is silent so long: that is the fault.
            self.proxy.heal()
        return what

    def copy(self, host: Host, name: str) -> Any:
        """Return the copy of a stream."""
        with self.server.client() as fleet:
            return fleet.xrange(host.keys.streams[name])

    def facts(self, host: Host) -> Any:
        """Return what the mirror has of a host besides its state."""
        with self.server.client() as fleet:
            return fleet.hgetall(host.keys.fleet)


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    """Everything that is ended after the test."""
    with ExitStack() as stack:
        yield stack


def test_no_event_is_missing_or_doubled_whatever_fails(folder: Path, resources: ExitStack) -> None:
    """Every host goes on granting, and in the end its streams equal their copies, byte for byte."""
    lab = Lab(resources, folder)
    chance, failed = random.Random(SEED), Counter[str]()
    with ExitStack() as work:
        lab.at_work(work)
        began = time.monotonic()
        while time.monotonic() < began + SECONDS or len(failed) < 4:
            failed[lab.fail(chance)] += 1
        before = {host.name: host.granted for host in lab.hosts}
        lab.proxy.swallow()  # With no mirror at all, every host grants.
        for host in lab.hosts:
            try:
                until(partial(_granted, host, before[host.name]), 60)
            except AssertionError:
                pytest.fail(f"{host.name} grants nothing: {host.trouble}, {failed}\n{host.log()}")
        lab.proxy.heal()
    events = 0
    for host in lab.hosts:
        for name in STREAMS:
            until(
                partial(_same, lab, host, name),
                SETTLE,
                f"for {host.name}, {name}, {failed}",
            )
        entries = host.stream("events")
        numbers = [place_of(key.decode())[1] for key, _ in entries]
        assert numbers == list(range(1, len(numbers) + 1))
        events += len(numbers)
        assert {name for name in lab.facts(host) if name.startswith((b"missing:", b"restarted:"))} == set()
    least = min(host.granted for host in lab.hosts)
    sys.stdout.write(f"{dict(failed)}; {events} events; the slowest host has granted {least} times\n")


def _granted(host: Host, before: int) -> bool:
    return host.granted > before


def _same(lab: Lab, host: Host, name: str) -> bool:
    try:
        return bool(host.stream(name) == lab.copy(host, name))
    except RedisError:
        return False
