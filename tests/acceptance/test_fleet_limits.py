"""A limit of GPUs on all hosts of a fleet: two real services, real users, and a real Redis."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.daemon import gpu, until
from support.fleet import fleet_server
from support.people import Person
from support.redis_lab import Server
from support.waiters import QueueHost

from canhazgpu.events.redis_client.fleet_copy import MOST_GPUS
from canhazgpu.events.redis_client.keys import Keys

LIMIT = 3


class Lab:
    """Two hosts with four GPUs each, where a user can hold three in all; gpu01 ignores the host `known`."""

    def __init__(self, server: Server, resources: ExitStack) -> None:
        """Start them."""
        self.server = server
        self.one, self.two = (self._host(name, resources) for name in ("gpu01", "gpu02"))

    def _host(self, name: str, resources: ExitStack) -> QueueHost:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="chg-", dir="/tmp")))
        folder.chmod(0o755)
        more = (
            f'[fleet]\nurl = "redis://127.0.0.1:{self.server.port}"\ninterval = "1s"\n'
            f'[limits.fleet]\nmax_gpus_per_user = {LIMIT}\nignore_hosts = ["known"]\n'
        )
        daemon = QueueHost(folder, more, host=name)
        daemon.waiting = []
        daemon.place(*(gpu(index, memory_used_mb=45) for index in range(4)))
        daemon.start()
        resources.callback(self._stop, daemon)
        return daemon

    @staticmethod
    def _stop(daemon: QueueHost) -> None:
        for process in daemon.waiting:
            with suppress(ProcessLookupError):
                process.kill()
            process.communicate()
        daemon.stop()

    def claim(self, host: str, user: str, count: int) -> None:
        """Let another host of the fleet say that a user holds GPUs there."""
        keys = Keys(host)
        with self.server.client() as admin:
            seconds, _ = admin.time()
            value = {"seen_ms": seconds * 1000, "gpus": {user: count}}
            admin.set(keys.fleet_held, msgspec.msgpack.encode(value))
            admin.set(keys.fleet_state, b"x")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """The fleet."""
    with ExitStack() as resources:
        yield Lab(resources.enter_context(fleet_server(tmp_path)), resources)


def refused(host: QueueHost, person: Person, count: int) -> "subprocess.CompletedProcess[str]":
    """Return how a request is refused, once it is: what the other hosts say arrives later."""

    def ask() -> "subprocess.CompletedProcess[str] | None":
        done = host.run("reserve", "--gpus", str(count), person=person)
        if done.returncode == 0:
            host.run("release", person=person)
            until(lambda: "UNKNOWN" not in host.status())
        return done if done.returncode else None

    done: subprocess.CompletedProcess[str] = until(ask, 60)
    return done


def granted(host: QueueHost, person: Person, count: int) -> None:
    """Wait until a request is granted."""
    until(lambda: host.run("reserve", "--gpus", str(count), person=person).returncode == 0, 60)


def test_a_limit_counts_all_hosts(lab: Lab, people: list[Person]) -> None:
    """What a user holds on another host counts; the refusal names it; others are not concerned."""
    ada, bob = people
    assert lab.one.run("reserve", "--gpus", "2", person=ada).returncode == 0
    done = refused(lab.two, ada, 2)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: You can hold 3 GPU(s) in the fleet at a time, and hold too many to get 2 more: 2 on gpu01"
        " (release some first, or wait with --wait)\n"
    )
    assert lab.two.run("reserve", "--gpus", "1", person=ada).returncode == 0
    done = lab.two.run("reserve", "--json", person=ada)
    assert done.returncode == 1
    assert "1 more: 1 on this host, 2 on gpu01 (" in done.stderr
    done = lab.two.run("reserve", "--gpus", "4", person=ada)
    assert done.stderr == "Error: you can hold 3 GPU(s) in the fleet at a time, not 4\n"
    assert lab.two.run("reserve", "--gpus", "3", person=bob).returncode == 0


def test_who_waits_for_the_other_host_holds_nobody_up(lab: Lab, people: list[Person]) -> None:
    """A request over the limit waits without claiming a GPU, and is served after a release elsewhere."""
    ada, bob = people
    assert lab.one.run("reserve", "--gpus", "2", person=ada).returncode == 0
    refused(lab.two, ada, 2)
    waiting = lab.two.stand("reserve", "--gpus", "2", "--wait", person=ada)
    reason = "you hold 2 on gpu01, of the 3 GPUs you may have in the fleet"
    assert [row["reason"] for row in lab.two.queue()] == [reason]
    assert lab.two.run("reserve", "--gpus", "2", person=bob).returncode == 0
    assert lab.one.run("release", person=ada).returncode == 0
    assert waiting.wait(120) == 0
    assert lab.two.queue() == []


def test_without_the_mirror_a_host_counts_its_own(lab: Lab, people: list[Person]) -> None:
    """If the fleet's Redis is killed, the host goes on by what it knows itself, and says so."""
    ada, _ = people
    assert lab.one.run("reserve", "--gpus", "2", person=ada).returncode == 0
    refused(lab.two, ada, 2)
    lab.server.kill()
    granted(lab.two, ada, 2)
    assert '"fleet_limit_alone"' in lab.two.log.read_text()
    done = lab.two.run("reserve", "--gpus", "2", person=ada)
    assert "2 more: 2 on this host (" in done.stderr
    lab.server.start()
    until(lambda: '"fleet_limit_back"' in lab.two.log.read_text(), 60)
    done = until(lambda: "on gpu01" in (said := lab.two.run("reserve", person=ada)).stderr and said, 60)
    assert "1 more: 2 on this host, 2 on gpu01 (" in done.stderr


def test_a_hostile_host_and_its_bound(lab: Lab, people: list[Person]) -> None:
    """A claim of a million GPUs counts as none; one that a host can have is named, and can be ignored."""
    ada, bob = people
    lab.claim("evil", ada.name, 10**6)
    lab.claim("known", ada.name, MOST_GPUS)
    lab.claim("other", bob.name, LIMIT)  # Once this is known, so are the others.
    refused(lab.two, bob, 1)
    assert lab.two.run("reserve", "--gpus", "1", person=ada).returncode == 0
    lab.claim("evil", ada.name, MOST_GPUS)
    words = f"3 more: 1 on this host, {MOST_GPUS} on evil ("
    until(lambda: words in lab.two.run("reserve", "--gpus", "3", person=ada).stderr, 60)
    (own,) = json.loads(lab.two.run("reservations", "--json").stdout)
    assert own["user"] == ada.name  # What is held stays.


def test_the_response_has_the_hosts(lab: Lab, people: list[Person]) -> None:
    """Programs get the counts by host, with the problem that every limit has."""
    ada, _ = people
    lab.claim("gpu07", ada.name, 2)
    refused(lab.two, ada, 2)
    socket, asked = str(lab.two.folder / "s"), json.dumps({"kind": "manual", "count": 2})
    curl = ("curl", "--silent", "--unix-socket", socket, "--data", asked, "http://localhost/v1/reservations")
    done = subprocess.run(ada.command(*curl), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["status"], found["type"]) == (409, "urn:canhazgpu:problem:limit")
    assert found["hosts"] == {"gpu07": 2}
