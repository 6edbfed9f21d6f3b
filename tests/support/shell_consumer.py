"""A consumer group that is read from a shell: `events --follow --group`, with what it writes."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.daemon import COMMAND, PATIENCE, Daemon, until

STREAM = "canhazgpu:{testhost}:events"
GROUP = "tickets"
WORDS = ("events", "--follow", "--group", GROUP, "--type", "reservation")
CREATED, RELEASED = "canhazgpu.reservation.created", "canhazgpu.reservation.released"


class Consuming:
    """A running consumer, with what it writes."""

    def __init__(self, host: Daemon, *words: str) -> None:
        self.output, self.errors = host.folder / "consumer.out", host.folder / "consumer.err"
        with self.output.open("ab") as output, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, *WORDS, *words],
                env=host.environment,
                cwd=host.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def lines(self) -> list[Any]:
        """Return the JSON that it printed."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition; fail if the consumer has ended."""

        def met() -> bool:
            assert self.process.poll() is None, self.errors.read_text()
            return bool(condition())

        until(met)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def consuming(host: Daemon, *words: str) -> Iterator[Consuming]:
    """Run it; it is killed at the end."""
    made = Consuming(host, *words)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def happen(host: Daemon, *words: str) -> None:
    """Let two events happen: a reservation begins, and ends."""
    assert host.run("reserve", "--gpus", "1", *words).returncode == 0
    assert host.run("release").returncode == 0


def pending(host: Daemon) -> int:
    """Return how many entries the group has read and not acknowledged."""
    with host.redis() as client:
        return int(client.xpending(STREAM, GROUP)["pending"])


def acknowledged(host: Daemon) -> bool:
    """Return whether the group has acknowledged the whole stream."""
    with host.redis() as client:
        groups = {one["name"]: one for one in client.xinfo_groups(STREAM)}
        facts, last = groups.get(GROUP.encode(), {}), client.xrevrange(STREAM, count=1)[0][0]
    return (facts.get("last-delivered-id"), facts.get("pending")) == (last, 0)


def kinds(events: list[Any]) -> list[str]:
    """Return the types of events."""
    return [one["type"] for one in events]


def script(host: Daemon, text: str) -> str:
    """Write a program; return how it is called."""
    path = host.folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return "./program"
