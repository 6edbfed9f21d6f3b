"""Hosts that only exist on the fleet's Redis.

Each has a connection of its own and sends what the worker of a host sends, with the same pauses: WATCH, XINFO
STREAM and a transaction of XADD for new events, and a transaction with the state about a second after an
event, or every ten seconds. Nothing is behind them: this machine cannot run a thousand services.
"""

import asyncio
import json
import random
import re
import resource
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from canhazgpu.events.redis_client.keys import Keys

CHANCE = random.Random(1)  # noqa: S311 - not a secret
INTERVAL, GATHER, SETTLE, BATCH = 10.0, 0.3, 1.0, 200
DATA = b"x" * 560  # With an id, about as long as the entry of a reservation.
SLOTS, DONE = 16384, b"$4\r\ndone\r\n"
LAST = re.compile(rb"last-generated-id\r\n\$\d+\r\n\d+-(\d+)\r\n")
PAUSE_FIRST, PAUSE_LAST, ANSWER = 0.2, 20.0, 5.0  # As in workers/fleet/mirror.py.


def command(*words: bytes | str | int) -> bytes:
    """Return a command as Redis reads it."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Host:
    """One host, whose events happen at random, `rate` a second, after `backlog` that were not copied yet."""

    def __init__(self, number: int, ports: list[int], state: bytes, rate: float, backlog: int) -> None:
        """Nothing is connected yet."""
        self._keys, self._state, self._rate = Keys(f"lean{number:05}"), state, rate
        self._port = ports[key_slot(self._keys.events.encode()) * len(ports) // SLOTS]
        self._due = [time.time()] * backlog  # When each event that is not copied has happened.
        self._copied = 0
        self.delays: list[float] = []
        self.failures = 0

    @property
    def is_behind(self) -> bool:
        """Whether there is more than a batch to copy."""
        return len(self._due) > BATCH

    async def run(self, until: float) -> None:
        """Copy until then, whatever fails."""
        pause, self._next = PAUSE_FIRST, time.time() + CHANCE.expovariate(self._rate)
        while time.time() < until:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                self._reader, self._writer = await asyncio.open_connection(
                    "127.0.0.1", self._port, limit=2**20
                )
                try:
                    found = LAST.search(await self._ask(command("XINFO", "STREAM", self._keys.events)))
                    copied = int(found[1]) if found else 0
                    self._due, self._copied = self._due[copied - self._copied :], copied
                    pause = PAUSE_FIRST
                    await self._follow(until)
                finally:
                    self._writer.close()
            if time.time() < until:
                self.failures += 1
                await asyncio.sleep(pause * CHANCE.uniform(0.5, 1.0))
                pause = min(pause * 2, PAUSE_LAST)

    async def _follow(self, until: float) -> None:
        state_due = time.time() + CHANCE.uniform(0, SETTLE if self._due else INTERVAL)
        while (now := time.time()) < until:
            while self._next <= now:
                self._due.append(self._next)
                self._next += CHANCE.expovariate(self._rate)
            if self._due:
                await self._copy(self._due[:BATCH])
                state_due = min(state_due, time.time() + SETTLE)
            if time.time() >= state_due:
                await self._write_state()
                state_due = time.time() + INTERVAL
            if not self._due:
                await asyncio.sleep(max(0.0, min(self._next + GATHER, state_due, until) - time.time()))

    async def _copy(self, due: list[float]) -> None:
        key = self._keys.events
        await self._ask(command("WATCH", key) + command("XINFO", "STREAM", key))
        batch = [command("MULTI")]
        for number, at in enumerate(due, self._copied + 1):
            batch.append(command("XADD", key, f"{int(at * 1000)}-{number}", "data", DATA))
        if b"-ERR" in await self._ask(b"".join([*batch, command("EXEC")])):
            raise ConnectionError  # An id is not the next one: the last one is asked for again.
        del self._due[: len(due)]
        self._copied += len(due)
        self.delays += [time.time() - at for at in due]

    async def _write_state(self) -> None:
        fleet = self._keys.fleet
        await self._ask(command("HGETALL", fleet) + command("TIME"))
        written = command("SET", self._keys.fleet_state, self._state) + command("HSET", fleet, "state", "{}")
        await self._ask(command("MULTI") + written + command("EXEC"))

    async def _ask(self, text: bytes) -> bytes:
        """Send commands, and return all answers."""
        self._writer.write(text + command("ECHO", "done"))
        async with asyncio.timeout(ANSWER):
            answer = await self._reader.readuntil(DONE)
        if b"-CLUSTERDOWN" in answer or b"-LOADING" in answer or b"-OOM" in answer:
            raise ConnectionError
        return answer


async def work(state: bytes, words: list[str]) -> dict[str, Any]:
    """Run the hosts, and return figures."""
    ports = [int(port) for port in words[0].split(",")]
    count, rate, seconds, backlog = int(words[1]), float(words[2]), float(words[3]), int(words[4])
    hosts = [Host(number, ports, state, rate, backlog) for number in range(count)]
    began = time.time()
    async with asyncio.TaskGroup() as tasks:
        for host in hosts:
            tasks.create_task(host.run(began + seconds))
        caught_up = None
        while time.time() < began + seconds:
            await asyncio.sleep(0.1)
            if caught_up is None and not any(host.is_behind for host in hosts):
                caught_up = time.time() - began
    delays = [delay for host in hosts for delay in host.delays] or [0.0]
    places = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    return {
        "events": len(delays),
        "p50": places[49],
        "p99": places[98],
        "longest": max(delays),
        "failures": sum(host.failures for host in hosts),
        "caught_up": caught_up,
    }


def main() -> None:
    """Print the figures as JSON. Arguments: file with a state, ports, hosts, rate, seconds, backlog."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(asyncio.run(work(Path(sys.argv[1]).read_bytes(), sys.argv[2:]))))


if __name__ == "__main__":
    main()
