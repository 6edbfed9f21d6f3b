"""Waiting commands are killed, together, when they are served, or while Redis is down: nothing stays held."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.redis import redis_binary

GPUS = 4


class Crowd:
    """Waiting commands."""

    def __init__(self, host: Daemon) -> None:
        self.host, self.commands = host, list["subprocess.Popen[bytes]"]()

    def wait(self, *words: str) -> None:
        """Start one, and wait until it is in the queue."""
        before = len(self.queue() or ())
        self.commands.append(
            subprocess.Popen(
                [*COMMAND, *words],
                env=self.host.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=self.commands[0].pid if self.commands else 0,
            )
        )
        until(lambda: len(self.queue() or ()) > before)

    def queue(self) -> list[dict[str, Any]] | None:
        """Return the waiting requests, or None if the service does not know them now."""
        rows: list[dict[str, Any]] | None = json.loads(self.host.run("queue", "--json").stdout or "null")
        return rows

    def kill(self) -> None:
        """Kill all with one call: one by one, the next could be served, and read its answer, in between."""
        if self.commands:
            os.killpg(self.commands[0].pid, signal.SIGKILL)
        for command in self.commands:
            command.wait()
        self.commands.clear()


def held(host: Daemon) -> int:
    """Return the number of held GPUs."""
    with host.redis() as redis:
        records = redis.hvals("canhazgpu:{testhost}:reservations")
    return sum(len(json.loads(text)["gpus"]) for text in records)


@pytest.fixture
def crowd(folder: Path) -> Iterator[Crowd]:
    """A host with four GPUs, one of them reserved, and requests that wait for it."""
    host = Daemon(folder)
    host.place(*(gpu(index, memory_used_mb=45) for index in range(GPUS)))
    host.start()
    made = Crowd(host)
    assert host.run("reserve", "--gpu-ids", "3").returncode == 0
    yield made
    made.kill()
    host.stop()


@pytest.mark.parametrize(
    "words",
    [("run", "--new", "--gpus", "1", "--wait", "--", "sleep", "600"), ("reserve", "--gpus", "1", "--wait")],
)
def test_who_is_served_as_they_die_holds_nothing(crowd: Crowd, words: tuple[str, ...]) -> None:
    """If all are killed at once, the ones that are served while dying lose their GPUs again."""
    for _ in range(3):
        crowd.wait("reserve", "--gpus", "4", "--wait")
        for _ in range(3):
            crowd.wait(*words)
        crowd.kill()
        until(lambda: crowd.queue() == [] and held(crowd.host) == 1, 20)
        time.sleep(0.3)
    assert held(crowd.host) == 1


def test_who_dies_while_redis_is_away_leaves_the_queue(folder: Path) -> None:
    """After Redis is back, no request of a dead command is left."""
    words = [redis_binary(), "--port", "0", "--unixsocket", f"{folder}/r", "--dir", str(folder), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "always"]
    redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    host = Daemon(folder, more=f'[redis]\nurl = "unix://{folder}/r"\n')
    host.place(gpu(0, memory_used_mb=45))
    host.start()
    crowd = Crowd(host)
    try:
        until(lambda: host.run("reserve").returncode == 0)  # Redis may start later than the service.
        crowd.wait("run", "--new", "--wait", "--", "sleep", "600")
        redis.kill()
        redis.wait()
        crowd.kill()
        time.sleep(1)
        redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        until(lambda: crowd.queue() == [], 30)
        with suppress(AssertionError):
            until(lambda: host.run("release").returncode == 0)
        until(lambda: "GPU 0: AVAILABLE" in host.status())
        assert host.run("reserve").returncode == 0
    finally:
        crowd.kill()
        host.stop()
        redis.kill()
        redis.wait()
