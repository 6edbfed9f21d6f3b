"""A service with commands that wait in its queue."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.daemon import COMMAND, Daemon, gpu, until
from support.people import Person


class QueueHost(Daemon):
    """A service, and the commands that tests leave running."""

    waiting: list["subprocess.Popen[str]"]

    def begin(self, *words: str, person: Person | None = None) -> "subprocess.Popen[str]":
        """Start a command and leave it running."""
        process = subprocess.Popen(
            person.command(*COMMAND, *words) if person else [*COMMAND, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.waiting.append(process)
        return process

    def queue(self) -> list[dict[str, Any]]:
        """Return the waiting requests."""
        rows: list[dict[str, Any]] = json.loads(self.run("queue", "--json").stdout)
        return rows

    def stand(self, *words: str, person: Person | None = None) -> "subprocess.Popen[str]":
        """Start a command that waits; return when it is in the queue."""
        before = len(self.queue())
        process = self.begin(*words, person=person)
        until(lambda: len(self.queue()) > before)
        return process


@contextmanager
def four_gpus(folder: Path) -> Iterator[QueueHost]:
    """Run a service with four idle GPUs; end what still waits."""
    daemon = QueueHost(folder)
    daemon.waiting = []
    daemon.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
    daemon.start()
    try:
        yield daemon
    finally:
        for process in daemon.waiting:
            with suppress(ProcessLookupError):
                process.kill()
            process.communicate()
        daemon.stop()
