"""Bursts of use add up to one violation, and one short use is no violation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.people import Person

from canhazgpu.events.redis_client.keys import Keys

CONFIRM = 6.0  # Seconds. A burst counts as long as its scans are apart: 0.2 s, unless the machine is halted.
MOST = 90  # Bursts.
KEYS = Keys("testhost")


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service whose confirmation time is longer than any burst."""
    daemon = Daemon(folder, confirm=f"{CONFIRM}s")
    daemon.place(gpu(0), gpu(1))
    yield daemon.start()
    daemon.stop()


def burst(host: Daemon, redis: Any, person: Person, index: int) -> None:
    """Run a process of a user until a scan has seen it and another has seen its end."""
    process = person.spawn("sleep", "600")
    host.place(*(gpu(one, *([use(process.pid, 1024)] if one == index else [])) for one in range(2)))
    until(lambda: users_of(redis, index) == [person.name])
    process.kill()
    process.wait()
    host.place(gpu(0), gpu(1))
    until(lambda: users_of(redis, index) == [])


def users_of(redis: Any, index: int) -> Any:
    """Return the users of a GPU in the last scan."""
    return json.loads(redis.hget(KEYS.gpu(index), "usage"))["users"]


def violations(host: Daemon) -> list[tuple[str, int]]:
    """Return the violations so far, by user and GPU."""
    rows = json.loads(host.run("violations", "--json").stdout)
    return [(one["user"], one["gpu"]) for one in rows]


def test_short_processes_that_come_back_are_a_violation(host: Daemon, people: list[Person]) -> None:
    """The user of bursts has one violation and one notice; the user of one short use has none."""
    bob, alice = people
    redis = host.redis()
    burst(host, redis, alice, 1)
    burst(host, redis, bob, 0)
    assert violations(host) == []
    for _ in range(MOST):
        burst(host, redis, bob, 0)
        if opened := [one for one in host.facts() if one["type"].endswith("opened")]:
            break
    assert len(opened) == 1
    assert violations(host) == [(bob.name, 0)]
    assert [key.decode().rpartition("/")[2] for key in redis.hkeys(KEYS.pending)] == [f"uid:{alice.uid}"]
