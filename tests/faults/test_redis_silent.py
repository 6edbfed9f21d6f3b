"""Redis is stopped: nobody is left waiting for the full timeout of a command, and the next ones wait less."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.daemon import Daemon, until

from canhazgpu.client import Client, Refused

BOUND = 3.0  # Seconds; a busy machine takes its time, and the timeout of a command is longer.
ASKED = 3
TIMEOUT = 5.0  # Seconds, of a command of Redis.


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
    assert time.monotonic() - began < TIMEOUT


def test_doctor_does_not_wait_for_it_either(host: Daemon, hung: Client) -> None:
    """All checks together take less than the timeout of a command, and name the process."""
    del hung
    began = time.monotonic()
    said = host.run("doctor").stdout
    assert time.monotonic() - began < TIMEOUT
    assert said.count("is stopped") == ASKED - 1
