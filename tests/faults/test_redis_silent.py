"""Redis hangs: the first reader is not left waiting for the full timeout, and the next ones wait less."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from support.daemon import Daemon, until

from canhazgpu.client import Client, Refused

BOUND = 3.0  # Seconds; a busy machine takes its time, and the timeout of a command is longer.
ASKED = 3


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
