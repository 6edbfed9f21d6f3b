"""Keeps a ticket for each violation in another system: opened when it begins, closed when it ends."""

import asyncio
import json
import sys
import urllib.error
import urllib.request

from canhazgpu.events import Consumer, Gap, StreamEvent, TryAgain
from canhazgpu.events.violations import Violation

REDIS = "unix:///var/lib/canhazgpu/redis/redis.sock"
HOST = "gpu-host-1"
TICKETS = "http://tickets.example.com/api/tickets"
DEAD_LETTERS = "/var/lib/tickets/dead-letters.jsonl"
SERVER_ERROR = 500


def handle(event: StreamEvent) -> None:
    """Open or close a ticket. If an event comes twice, the second PUT updates the same ticket."""
    data = event.typed()
    if isinstance(data, Gap):
        print(f"events are missing: {data.missing or 'an unknown number'}", file=sys.stderr)
    elif isinstance(data, Violation):
        ticket = {
            "title": f"{data.user} uses GPU {data.gpu} of {HOST} without a valid reservation",
            "state": "closed" if data.closed else "open",
        }
        put(f"{TICKETS}/{data.violation}", ticket)


def put(url: str, ticket: dict[str, str]) -> None:
    """Send a ticket. While the other system is unavailable, the event waits, and so do those after it."""
    body = json.dumps(ticket).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code < SERVER_ERROR:
            raise  # It rejects this ticket: after 10 attempts, the event becomes a dead letter.
        raise TryAgain(str(error)) from error
    except OSError as error:
        raise TryAgain(str(error)) from error


consumer = Consumer(
    REDIS,
    host=HOST,
    stream="violations",
    group="tickets",
    types=["violation.opened", "violation.closed"],
    dead_letters=DEAD_LETTERS,
)
asyncio.run(consumer.run(handle))
