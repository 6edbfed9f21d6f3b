"""A worker of `bench.consumers`: it writes the number of each event that it handles to a file.

`python -m bench.consumer_worker KIND SOCKET GROUP FILE COUNT`: KIND is library, redis-py or redis-py-asyncio.
It ends when so many events were handled, if COUNT is not 0, and prints the seconds and the processor time.
"""

import asyncio
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio

from canhazgpu.events import Consumer, StreamEvent
from canhazgpu.events.envelope import GAP
from canhazgpu.events.redis_client.keys import Keys

HOST = "bench"
STREAM = Keys(HOST).events
BATCH = 256
RECORD = struct.Struct("<Q")
BLOCK = 1000


class Notes:
    """The numbers of the events that were handled, in a file: what is written survives a kill."""

    def __init__(self, path: str, count: int) -> None:
        """Append to the file."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.left = count

    def write(self, number: int) -> None:
        """Handle an event."""
        os.write(self._file, RECORD.pack(number))
        self.left -= 1


async def library(socket: str, group: str, notes: Notes) -> None:
    """Consume with the library."""
    over = asyncio.Event()

    async def handle(event: StreamEvent) -> None:
        if event.type == GAP:
            raise SystemExit(f"entries are missing: {event.data}")
        notes.write(event.data["number"])
        if notes.left == 0:
            over.set()

    consumer = Consumer(f"unix://{socket}", host=HOST, group=group, name="worker", batch=BATCH)
    running = asyncio.ensure_future(consumer.run(handle))
    ending = asyncio.ensure_future(over.wait())
    await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()


async def bare(socket: str, group: str, notes: Notes) -> None:
    """Consume in a loop that only reads, decodes the data and acknowledges."""
    client = redis.Redis(unix_socket_path=socket, protocol=2)
    while notes.left:
        reply: Any = client.xreadgroup(group, "worker", {STREAM: ">"}, count=BATCH, block=BLOCK)
        rows = reply[0][1] if reply else []
        for _, fields in rows:
            notes.write(json.loads(fields[b"data"])["number"])
        if rows:
            client.xack(STREAM, group, *(key for key, _ in rows))


async def bare_asyncio(socket: str, group: str, notes: Notes) -> None:
    """Do the same with the asynchronous client."""
    client = redis.asyncio.Redis(unix_socket_path=socket, protocol=2)
    while notes.left:
        reply: Any = await client.xreadgroup(group, "worker", {STREAM: ">"}, count=BATCH, block=BLOCK)
        rows = reply[0][1] if reply else []
        for _, fields in rows:
            notes.write(json.loads(fields[b"data"])["number"])
        if rows:
            await client.xack(STREAM, group, *(key for key, _ in rows))
    await client.aclose()


KINDS: dict[str, Callable[[str, str, Notes], Any]] = {
    "library": library,
    "redis-py": bare,
    "redis-py-asyncio": bare_asyncio,
}


def main() -> None:
    """Run one worker."""
    kind, socket, group, path, count = sys.argv[1:]
    notes = Notes(path, int(count))
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    asyncio.run(KINDS[kind](socket, group, notes))
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(time.perf_counter() - began, used)


if __name__ == "__main__":
    main()
