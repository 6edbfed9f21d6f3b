"""A lab to look at: GPUs in every state, people who hold and wait for some, and a past."""

import contextlib
import json
import socket
from typing import Any

from support.daemon import gpu, until

from canhazgpu.client import Client

NAME = "NVIDIA H100 80GB HBM3"


class Waiters:
    """Requests that wait in the queue, as long as their connections are open."""

    def __init__(self, path: str) -> None:
        """Make no request yet."""
        self._path = path
        self._links: list[socket.socket] = []

    def add(self, count: int, **facts: Any) -> None:
        """Add requests for more GPUs than are free; return when all are in the queue."""
        before = len(self._links)
        for number in range(count):
            link = socket.socket(socket.AF_UNIX)
            link.connect(self._path)
            body = json.dumps(
                {"kind": "manual", "duration": "4h", "wait": True, **facts, "note": f"request {number}"}
            )
            head = f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            link.sendall((head + body).encode())
            self._links.append(link)
        client = Client(self._path)
        until(lambda: len(client.get("/v1/queue")) >= before + count, 60)

    def close(self) -> None:
        """Leave the queue."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._links.clear()


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
