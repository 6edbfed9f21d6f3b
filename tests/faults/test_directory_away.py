"""While a directory of users hangs, the service continues, and local users are notified in time."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.daemon import gpu, until, use
from support.directory import HANG, Directory, DirectoryDaemon, DirectoryPerson
from support.people import Person, Terminal

from canhazgpu.events.redis_client.keys import Keys

STRANGERS = range(1505433401, 1505433409)  # More than there are look-ups at the same time.
IN_TIME = HANG - 1  # Nothing may take as long as one look-up.


class Supervisor:
    """A supervisor like systemd, which records each message with its time."""

    def __init__(self, path: Path) -> None:
        """Listen on a socket."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.heard: list[tuple[float, bytes]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            text = self._socket.recv(4096)
            self.heard.append((time.monotonic(), text))

    def longest_silence(self, since: float) -> float:
        """Return the longest time between two watchdog messages since a moment."""
        fed = [when for when, text in list(self.heard) if b"WATCHDOG=1" in text and when >= since]
        moments = [since, *fed, time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(moments))


class Scans:
    """Records when scans reached Redis."""

    def __init__(self, daemon: DirectoryDaemon) -> None:
        """Start to watch."""
        self._redis, self._over = daemon.redis(), threading.Event()
        self.moments: list[int] = []
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            found = self._redis.hget(Keys("testhost").scan, "at_ms")
            if found and int(found) not in self.moments[-1:]:
                self.moments.append(int(found))

    def end(self) -> list[float]:
        """Return the seconds between scans."""
        self._over.set()
        self._thread.join()
        return [(later - earlier) / 1000 for earlier, later in pairwise(self.moments)]


@pytest.fixture
def host(folder: Path, people: list[Person]) -> Iterator[DirectoryDaemon]:
    """A service with a supervisor; processes of the directory's users are on GPU 1."""
    del people  # They are there before the host's files are copied.
    daemon = DirectoryDaemon(folder)
    daemon.directory = Directory(folder, **{f"user{uid}": uid for uid in STRANGERS})
    daemon.more_environment = (f"NOTIFY_SOCKET={folder}/notify", "WATCHDOG_USEC=2000000")
    with contextlib.ExitStack() as ending:
        ending.callback(daemon.stop)
        yield daemon


@pytest.fixture
def strangers() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start a process of each user of the directory."""
    theirs = [DirectoryPerson(f"user{uid}", uid) for uid in STRANGERS]
    yield [one.spawn("sleep", "600") for one in theirs]
    for one in theirs:
        one.remove()


def quickly(daemon: DirectoryDaemon, person: Person, *words: str) -> str:
    """Run a command, which must be answered in time; return its output."""
    began = time.monotonic()
    done = daemon.run(*words, person=person)
    assert time.monotonic() - began < IN_TIME, words
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def test_a_directory_that_hangs_stops_nothing(
    host: DirectoryDaemon, people: list[Person], strangers: list["subprocess.Popen[bytes]"]
) -> None:
    """Scans go on, the supervisor hears, commands are answered, and a local user is told in time.

    Each look-up takes 15 s, for more users than are looked up at the same time.
    """
    bob, alice = people
    supervisor = Supervisor(host.folder / "notify")
    host.start()
    terminal = Terminal(bob)
    host.directory.put("slow")
    scans, since = Scans(host), time.monotonic()
    try:
        host.place(gpu(0), gpu(1, *(use(one.pid, 512) for one in strangers)), gpu(2))
        until(lambda: "GPU 1: IN USE WITHOUT RESERVATION" in host.status(), IN_TIME)
        host.place(
            gpu(0, use(terminal.leader.pid, 1024)),
            gpu(1, *(use(one.pid, 512) for one in strangers)),
            gpu(2),
        )
        began = time.monotonic()
        until(lambda: terminal.first_seen("GPU 0"), IN_TIME)
        assert f"{bob.name}" in terminal.text
        while time.monotonic() - began < HANG + 5:  # As long as look-ups hang, and then some.
            assert f"user {bob.name} - 1024MB" in quickly(host, alice, "status")
            quickly(host, alice, "run", "--gpu-ids", "2", "--", "true")
            until(lambda: "GPU 2: AVAILABLE" in host.status(), IN_TIME)
            quickly(host, alice, "reserve", "--gpu-ids", "2")
            assert f"GPU 2: IN USE by {alice.name}" in quickly(host, alice, "status")
            quickly(host, alice, "release")
        assert max(scans.end()) < IN_TIME
        assert supervisor.longest_silence(since) < IN_TIME
        host.directory.take("slow")
    finally:
        scans.end()
        terminal.close()
