"""`canhazgpu web` in a process of its own, and a client for it."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from support.daemon import COMMAND, PATIENCE, Daemon, until
from support.people import Person
from support.ports import free_port


class Page:
    """The page of a host."""

    def __init__(self, daemon: Daemon, person: Person | None = None, **environment: str) -> None:
        """Start it on a free port, as a person if one is named; return when it answers."""
        self.daemon = daemon
        words = [*COMMAND, "web", "--listen"]
        self._command = person.command(*words) if person else words
        self._environment = {**daemon.environment, **environment}
        self.port = free_port()  # It is started again on this one.
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, after a stop on the same port."""
        self.process = subprocess.Popen(
            [*self._command, f"127.0.0.1:{self.port}"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)/$", line.strip())
        assert found, line or (self.process.stderr and self.process.stderr.read())
        self.port = int(found[1])

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        """Return the answer to a GET."""
        return httpx.get(self.url + path, timeout=30, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return status

    def memory_mb(self) -> float:
        """Return its resident memory in MB."""
        with open(f"/proc/{self.process.pid}/statm") as file:  # noqa: PTH123 - not a file
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def page_of(daemon: Daemon, person: Person | None = None, **environment: str) -> Iterator[Page]:
    """Run the page of a host."""
    page = Page(daemon, person, **environment)
    try:
        yield page
    finally:
        page.stop()


class Watcher:
    """A browser's connection for events, read by hand. Changes of all events are joined."""

    def __init__(self, page: Page, since: str = "", path: str = "/live") -> None:
        """Connect."""
        self._link = socket.create_connection(("127.0.0.1", page.port), 20)
        self._link.sendall(f"GET {path}?since={since} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.received = b""

    def until(self, words: str, seconds: float = 30) -> None:
        """Read until these words have been received."""
        self._link.settimeout(0.1)

        def read() -> bool:
            if words.encode() in self.received:
                return True
            with suppress(TimeoutError):
                piece = self._link.recv(65536)
                assert piece, "the stream has ended"
                self.received += piece
            return words.encode() in self.received

        until(read, seconds, f"for {words}")

    def close(self) -> None:
        """Disconnect."""
        self._link.close()
