"""A container on a reserved GPU is presumed to be the holder's unless a hint points to another user."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.dockerd import DETACHED, Dockerd, Serve
from support.people import Person, Terminal

pytestmark = pytest.mark.docker
ASKED_AGAIN = 120.0  # Seconds until a Docker that was slow has certainly been asked again.


def rows(host: Daemon) -> list[dict[str, Any]]:
    """Return the GPUs from `status --json`."""
    return list(json.loads(host.run("status", "--json").stdout))


def deliveries(host: Daemon) -> list[dict[str, Any]]:
    """Return the attempts to deliver notices."""
    return list(json.loads(host.run("deliveries", "--json").stdout))


def words(terminal: Terminal) -> str:
    """Return what a terminal shows, as one line."""
    return " ".join(terminal.text.split())


@pytest.mark.parametrize("options", [(), ("--user={uid}",), ("--label=canhazgpu.user={name}",)])
def test_a_holders_container_is_no_violation(
    serve: Serve, docker: Dockerd, people: list[Person], options: tuple[str, ...]
) -> None:
    """A container that runs as root on a reserved GPU is no violation without a hint at another user."""
    ada, terminal = people[0], Terminal(people[0])
    try:
        host = serve(docker)
        assert host.run("reserve", "--gpu-ids", "0", person=ada).returncode == 0
        mine = docker.start(*(option.format(uid=ada.uid, name=ada.name) for option in options))
        nobodys = docker.start()
        host.place(gpu(0, use(mine.pid, 900)), gpu(1, use(nobodys.pid, 900)))
        until(lambda: rows(host)[1]["violations"])  # By then the other would have been one too.
        assert rows(host)[0]["violations"] == []
        assert [one["pid"] for one in rows(host)[0]["presumed"]] == [mine.pid]
        assert rows(host)[0]["reservation"]["idle_s"] is None
        until(lambda: any(one["audience"] == "admins" for one in deliveries(host)))  # Of the other one.
        assert ada.name not in {one["recipient"] for one in deliveries(host)}
        assert terminal.text == ""
    finally:
        terminal.close()


@pytest.fixture
def carol() -> Iterator[Person]:
    """A third person, in a group of their own name."""
    made = Person()
    yield made
    made.remove()


def test_a_container_that_points_to_another_is_told_to_holder_and_administrators(
    serve: Serve, docker: Dockerd, people: list[Person], carol: Person
) -> None:
    """Both read the hint and its source, and that nobody is proven; the user it names reads nothing."""
    steps = '[[notices.steps]]\nchannels = ["wall"]\nto = ["offender", "holder", "admins"]\n'
    ada, bob = people
    terminals = [Terminal(one) for one in (ada, carol, bob)]
    try:
        box = docker.start(f"--label=canhazgpu.user={bob.name}")
        host = serve(docker, steps, carol.name)
        assert host.run("reserve", "--gpu-ids", "0", person=ada).returncode == 0
        host.place(gpu(0, use(box.pid, 900)), gpu(1))
        (found,) = until(lambda: rows(host)[0]["violations"], ASKED_AGAIN)
        assert (found["person"], found["uid"], found["hint"]["user"]) == (None, None, bob.name)
        hint = f"hint, not proof: the processes may belong to {bob.name}, because container"
        source = f"canhazgpu.user={bob.name}"
        for terminal, *facts in (
            (terminals[0], hint, source, "GPU 0, which you have reserved"),
            (terminals[1], hint, source, f"GPU 0, which {ada.name} has reserved", "no user was notified"),
        ):
            for fact in facts:
                until(lambda one=terminal, fact=fact: fact in words(one), 20, fact)  # type: ignore[misc]
        assert terminals[2].text == ""
        assert bob.name not in {one["recipient"] for one in deliveries(host)}
    finally:
        for terminal in terminals:
            terminal.close()


def test_a_hint_is_there_when_the_service_is_started_anew(
    serve: Serve, docker: Dockerd, people: list[Person]
) -> None:
    """After a restart, the first scan has the hint, so the violation stays open."""
    box = docker.start(f"--label=canhazgpu.user={people[1].name}")
    host = serve(docker)
    assert host.run("reserve", "--gpu-ids", "0", person=people[0]).returncode == 0
    host.place(gpu(0, use(box.pid, 900)), gpu(1))
    (before,) = until(lambda: rows(host)[0]["violations"], ASKED_AGAIN)
    for _ in range(3):
        host.stop()
        scanned = rows(host.start())[0]["scanned_at"]
        until(lambda scanned=scanned: rows(host)[0]["scanned_at"] > scanned)  # type: ignore[misc]
        assert [one["violation"] for one in rows(host)[0]["violations"]] == [before["violation"]]


def test_a_detached_container_keeps_its_runs_gpu(serve: Serve, docker: Dockerd, people: list[Person]) -> None:
    """A detached container keeps the GPU of its run until the container ends."""
    Path(docker.socket).chmod(0o666)
    host = serve(docker)
    words = people[0].command(*COMMAND, "run", "--", "sh", "-c", DETACHED, docker.socket)
    with subprocess.Popen(
        words, env=host.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdin
        assert run.stdout
        box = run.stdout.readline().strip()
        host.place(gpu(0, use(docker.pid(box), 900)), gpu(1))
        until(lambda: rows(host)[0]["processes"])
        run.stdin.close()
    until(lambda: rows(host)[0]["reservation"]["lingering_s"] is not None)
    with host.redis() as redis:
        seen = redis.hget("canhazgpu:{testhost}:scan", "at_ms")
        until(lambda: redis.hget("canhazgpu:{testhost}:scan", "at_ms") != seen)
    assert rows(host)[0]["status"] == "IN_USE"
    docker.docker("rm", "--force", box)
    until(lambda: rows(host)[0]["status"] == "AVAILABLE")


def test_a_detached_container_that_has_not_touched_its_gpu_yet_keeps_it(
    serve: Serve, docker: Dockerd, people: list[Person]
) -> None:
    """A container with the run's id holds the GPU from start to end, also across a restart of the service."""
    Path(docker.socket).chmod(0o666)
    host = serve(docker)
    script = ["sh", "-c", DETACHED, docker.socket, "--env=CANHAZGPU_RESERVATION"]
    words = people[0].command(*COMMAND, "run", "--", *script)
    done = subprocess.run(
        words, env=host.environment, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    box = done.stdout.strip()
    with host.redis() as redis:
        seen = redis.hget("canhazgpu:{testhost}:scan", "at_ms")
        until(lambda: redis.hget("canhazgpu:{testhost}:scan", "at_ms") != seen)
    assert rows(host)[0]["reservation"]["user"] == people[0].name
    host.stop()
    host.start()
    assert rows(host)[0]["reservation"]["user"] == people[0].name
    host.place(gpu(0, use(docker.pid(box), 900)), gpu(1))
    until(lambda: rows(host)[0]["processes"])
    assert rows(host)[0]["others"] == []
    docker.docker("rm", "--force", box)
    until(lambda: rows(host)[0]["status"] == "AVAILABLE", 20)
