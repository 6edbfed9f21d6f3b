"""Redis is stopped: nobody is left waiting for the full timeout of a command, and the next ones wait less."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, until

from canhazgpu.client import Client, Refused

BOUND = 30.0  # Seconds; a busy machine takes its time, and the timeout of a command is longer.
ASKED = 3
PROGRAM = """
import sys
from canhazgpu.events.redis_client import store
store.ANSWER_TIMEOUT = 60.0
from canhazgpu.cli.main import main
sys.exit(main())
"""


class Patient(Daemon):
    """A service, and commands, that wait long for an answer of Redis."""

    @property
    def serve(self) -> list[str]:
        """The command that starts it."""
        program = self.folder / "program.py"
        program.write_text(PROGRAM)
        return [sys.executable, str(program)]


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service on one idle GPU, running."""
    daemon = Patient(folder).start()
    yield daemon
    daemon.stop()


@pytest.fixture
def hung(host: Daemon) -> Iterator[Client]:
    """A client of a service whose Redis has just been stopped."""
    client = Client(str(host.folder / "s"))
    until(lambda: "AVAILABLE" in host.status())
    pid = host.redis().info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    yield client
    os.kill(pid, signal.SIGCONT)
    until(lambda: "AVAILABLE" in host.status(), 20)


def test_the_first_answer_comes_soon(hung: Client) -> None:
    """It is what was last known, with the true reason; so are the next ones."""
    for _ in range(ASKED):
        began = time.monotonic()
        (row,) = hung.status()
        assert time.monotonic() - began < BOUND
        assert row["status"] == "UNKNOWN"
        assert "is stopped" in row["stale_reason"]


def test_a_change_is_refused_soon_once_it_is_known(hung: Client) -> None:
    """The timeout of a command is not waited for again."""
    hung.status()
    began = time.monotonic()
    with pytest.raises(Refused, match="is stopped"):
        hung.post("/v1/reservations/release", {})
    assert time.monotonic() - began < BOUND


FIRST: dict[str, Callable[[Client], Any]] = {
    "reserve": lambda client: client.post(
        "/v1/reservations", {"kind": "manual", "count": 1, "duration": "1h", "wait": False}
    ),
    "run": lambda client: client.post("/v1/reservations", {"kind": "run", "count": 1, "wait": False}),
    "release": lambda client: client.post("/v1/reservations/release", {}),
    "violations": lambda client: client.get("/v1/violations"),
    "health": lambda client: client.get("/v1/health"),
}


@pytest.mark.parametrize("first", FIRST)
def test_whatever_is_asked_first_is_answered_soon(hung: Client, first: str) -> None:
    """The process is looked at before the timeout, and the reason names it."""
    began = time.monotonic()
    with pytest.raises(Refused, match="is stopped"):
        FIRST[first](hung)
    assert time.monotonic() - began < BOUND


def test_doctor_does_not_wait_for_it_either(host: Daemon, hung: Client) -> None:
    """All checks together take less than the timeout of a command, and name the process."""
    del hung
    began = time.monotonic()
    words = [*host.serve, "doctor"]
    done = subprocess.run(words, env=host.environment, capture_output=True, text=True, check=False)
    assert time.monotonic() - began < BOUND
    assert done.stdout.count("is stopped") == ASKED - 1
