"""Measures a fleet of simulated hosts, one real host among them, and the commands that show all of them."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
from redis import Redis
from redis.exceptions import ResponseError

from bench.fleet import BUSY, GPUS, LONG_MS, RESERVED, make_busy
from bench.host import service
from bench.installed import installed
from bench.report import once
from bench.scale.servers import URL, Servers, servers
from canhazgpu.client import Client
from canhazgpu.events.redis_client.fleet_copy import decode_state, encode_state
from canhazgpu.events.redis_client.keys import Keys

SIZES = (100, 1000, 3000)
SECONDS, LONGEST = 20, 60
RATE = 0.2  # Events of a host per second: 17,000 a day, a reservation of each GPU every seven minutes.
FASTER = (1.0, 3.0)
HOURS_AWAY = 1
NODES = 3
STATUS = {"status --all": ["status", "--all"], "find --gpus 4": ["find", "--gpus", "4"]}


class Probe:
    """Reserves and releases a GPU of the real host, and notes how old events are when the mirror has them."""

    def __init__(self, socket: str, state: str, fleet: Servers) -> None:
        """Work until it is over."""
        self.lags: list[float] = []
        self.failed = 0
        self._socket, self._state, self._over, self._fleet = socket, state, threading.Event(), fleet
        self._threads = [threading.Thread(target=self._use), threading.Thread(target=self._look)]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _use(self) -> None:
        client = Client(self._socket)
        while not self._over.wait(1.0):
            asked = {"kind": "manual", "gpus": [GPUS - 1], "duration": "1h"}
            try:
                made = client.post("/v1/reservations", asked)
                client.post("/v1/reservations/release", {"ids": [made["reservation"]["id"]]})
            except Exception:  # noqa: BLE001 - whatever it is, it is counted
                self.failed += 1

    def _look(self) -> None:
        """Compare the last entry of the host's stream with that of the copy, twenty times a second."""
        key, waiting = Keys("bench").events, dict[bytes, float]()
        began = int(time.time() * 1000)
        own: Any = Redis(unix_socket_path=self._state)
        mirror = self._fleet.client(self._fleet.ports[0]) if len(self._fleet.ports) == 1 else None
        while mirror is not None and not self._over.wait(0.05):
            now = time.time()
            for entry, _ in own.xrevrange(key, "+", str(began), count=20):
                waiting.setdefault(entry, int(entry.partition(b"-")[0]) / 1000)
            facts: Any = mirror.xrevrange(key, count=50)
            for entry, _ in facts:
                if waiting.get(entry, 0) > 0:
                    self.lags.append(now - waiting[entry])
                    waiting[entry] = 0
        own.close()


def state_of_the_real_host(fleet: Servers) -> bytes:
    """Return the copy of the real host, once everything is in it, as simulated hosts write it."""
    while True:
        for port in fleet.ports:
            with fleet.client(port) as client:
                try:
                    value = client.get(Keys("bench").fleet_state)
                except ResponseError:  # Another node of the Cluster has it.
                    value = None
            state = decode_state(value) if value else None
            if state and state.reservations and len(state.open) >= BUSY - RESERVED:
                copy = msgspec.structs.replace(
                    state.copy, interval_ms=LONG_MS, seen_ms=int(time.time() * 1000)
                )
                return encode_state(msgspec.structs.replace(state, copy=copy))
        time.sleep(0.1)


class Load(msgspec.Struct, frozen=True):
    """So many hosts with so many events a second, for so long, after so many that were not copied yet."""

    count: int
    rate: float = RATE
    seconds: float = SECONDS
    backlog: int = 0


@contextmanager
def hosts(fleet: Servers, state: bytes, load: Load) -> Iterator[subprocess.Popen[str]]:
    """Run simulated hosts in a process of their own."""
    with tempfile.NamedTemporaryFile(prefix="chg-bench-", dir="/tmp") as file:
        file.write(state)
        file.flush()
        ports = ",".join(map(str, fleet.ports))
        words = [sys.executable, "-m", "bench.scale.hosts", file.name, ports]
        words += [str(load.count), str(load.rate), str(load.seconds), str(load.backlog)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            yield child


def results(child: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the figures of simulated hosts, once they have ended."""
    said, _ = child.communicate()
    found: dict[str, Any] = json.loads(said)
    return found


def spell(figures: dict[str, Any]) -> str:
    """Return the delays in words."""
    return (
        f"an event is on the mirror after {figures['p50']:.2f} s (p50), {figures['p99']:.2f} s (p99),"
        f" {figures['longest']:.1f} s at most"
    )


def measure() -> Iterator[str]:
    """Yield lines about each size, about more events, about catching up, and about a Cluster."""
    with installed() as programs:
        for size in SIZES:
            yield from _steady(programs, size, RATE)
        for rate in FASTER:
            yield from _steady(programs, 1000, rate)
        yield from _catching_up()
        yield from _losing_a_node(programs)


def _steady(programs: Path, count: int, rate: float) -> Iterator[str]:
    with servers(1) as fleet, service(GPUS) as (folder, _):
        make_busy(folder)
        state = state_of_the_real_host(fleet)
        own = str(folder / "state" / "redis" / "redis.sock")
        with Probe(f"{folder}/s", own, fleet) as probe, hosts(fleet, state, Load(count, rate)) as child:
            time.sleep(SECONDS / 4)
            spent, began, commands = (
                fleet.cpu(),
                time.time(),
                fleet.total("stats", "total_commands_processed"),
            )
            time.sleep(SECONDS / 2)
            share = (fleet.cpu() - spent) / (time.time() - began)
            commands = fleet.total("stats", "total_commands_processed") - commands
            figures = results(child)
        memory = fleet.total("memory", "used_memory")
        with fleet.client(fleet.ports[0]) as client:
            stream = client.memory_usage(Keys("lean00000").events) or 0
            length = client.xlen(Keys("lean00000").events)
        lags = sorted(probe.lags) or [0.0]
        load = os.getloadavg()[0]
        yield f"{count} hosts, {rate:g} events/s each: {spell(figures)}; failures: {figures['failures']}"
        yield (
            f"{count} hosts, {rate:g} events/s each: the server uses {share:.0%} of a core for"
            f" {commands / (SECONDS / 2):.0f} commands/s, and has {memory / 1e6:.0f} MB after {SECONDS} s;"
            f" {stream / max(1, length):.0f} bytes per entry of a stream; load {load:.0f}"
        )
        yield (
            f"{count} hosts, {rate:g} events/s each: real host: {len(lags)} events after"
            f" {lags[len(lags) // 2]:.2f} s (p50), {lags[-1 - len(lags) // 100]:.2f} s (p99);"
            f" requests that failed: {probe.failed}"
        )
        for name, words in STATUS.items():
            took = [_time(programs, folder, words) for _ in range(3)]
            yield f"{count} hosts: {name}: {sorted(took)[1] * 1000:.0f} ms"


def _time(programs: Path, folder: Path, words: list[str]) -> float:
    environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
    environment.pop(URL)  # It is a setting of the service.
    return once([programs / "canhazgpu", *words], environment)[0]


def _catching_up() -> Iterator[str]:
    count, backlog = 1000, round(HOURS_AWAY * 3600 * RATE)
    with servers(1) as fleet, service(GPUS) as (folder, _):
        make_busy(folder)
        state = state_of_the_real_host(fleet)
        with hosts(fleet, state, Load(count, RATE, LONGEST, backlog)) as child:
            spent = fleet.cpu()
            figures = results(child)
            spent = fleet.cpu() - spent
    when = f"{figures['caught_up']:.0f} s" if figures["caught_up"] else f"more than {LONGEST} s"
    yield (
        f"{count} hosts that were away for {HOURS_AWAY} h, all back at once: {count * backlog} events are on"
        f" the mirror after {when}; the server used {spent:.0f} s of a processor in {LONGEST} s"
    )


def _losing_a_node(programs: Path) -> Iterator[str]:
    with servers(NODES) as fleet, service(GPUS) as (folder, _):
        make_busy(folder)
        state = state_of_the_real_host(fleet)
        own = str(folder / "state" / "redis" / "redis.sock")
        with (
            Probe(f"{folder}/s", own, fleet) as probe,
            hosts(fleet, state, Load(1000, RATE, LONGEST)) as child,
        ):
            time.sleep(LONGEST / 4)
            whole = _shown(programs, folder)
            fleet.kill(fleet.ports[-1])
            time.sleep(LONGEST / 6)
            while_away = _shown(programs, folder)
            fleet.start(fleet.ports[-1])
            time.sleep(LONGEST / 6)
            after = _shown(programs, folder)
            figures = results(child)
    yield (
        f"1000 hosts in a Cluster of {NODES}, one node killed for {LONGEST / 6:.0f} s: {spell(figures)};"
        f" connections that failed: {figures['failures']};"
        f" requests to the real host that failed: {probe.failed}"
    )
    yield f"Cluster: status --all before: {whole}; while the node is away: {while_away}; after: {after}"


def _shown(programs: Path, folder: Path) -> str:
    environment = {**os.environ, "CANHAZGPU_CONFIG": str(folder / "config.toml")}
    environment.pop(URL)
    began = time.time()
    words = [str(programs / "canhazgpu"), "status", "--all"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    took = time.time() - began
    shown = sum(not line.startswith(" ") for line in done.stdout.splitlines())
    error = f", then: {' '.join(done.stderr.split())[:160]}" if done.returncode else ""
    return f"{shown} hosts{error} ({took:.1f} s)"
