"""A large lab to look at: many GPUs that change, and many requests in the queue."""

import time

import msgspec
from support.daemon import Daemon, gpu

from canhazgpu.events.reservations import Waiting

NAME = "NVIDIA H100 80GB HBM3"


def cards(count: int, turn: int = 0) -> list[str]:
    """Return GPUs, of which every third is busy, differently at each turn."""
    return [
        gpu(
            index,
            name=NAME,
            memory_total_mb=81559,
            memory_used_mb=45 if index % 3 else 40_000 + (index * 977 + turn * 131) % 30_000,
            utilization_percent=0 if index % 3 else (index * 37 + turn * 11) % 101,
            temperature_c=31 + index % 40,
        )
        for index in range(count)
    ]


def fill_queue(daemon: Daemon, count: int, gpus: int) -> None:
    """Put requests for this many GPUs into the queue, as if their clients were connected.

    Two hundred clients would keep the service busier than the page does.
    """
    now = round(time.time() * 1000)
    rows = {
        f"q{number}": msgspec.json.encode(
            Waiting(
                id=f"q{number}",
                kind="manual",
                user=f"user{number % 40}",
                uid=20_000 + number % 40,
                place=number + 1,
                queued_ms=now - 1000 * (count - number),
                count=gpus,
                duration_ms=3_600_000,
                note=f"request {number}",
                attached=True,
            )
        )
        for number in range(count)
    }
    with daemon.redis() as redis:
        redis.hset("canhazgpu:{testhost}:queue", mapping=rows)
