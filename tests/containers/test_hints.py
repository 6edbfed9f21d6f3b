"""Hints at the user who started a real container, with and without `canhazgpu run`."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.daemon import COMMAND, Daemon, gpu, until, use
from support.dockerd import DETACHED, Box, Dockerd, Serve
from support.people import Person

pytestmark = pytest.mark.docker
ASKED_AGAIN = 120.0  # Seconds.


def process(host: Daemon, index: int = 0) -> dict[str, Any]:
    """Return the only process on a GPU from `status --json`."""
    (found,) = json.loads(host.run("status", "--json").stdout)[index]["processes"]
    return dict(found)


def await_hint(host: Daemon, box: Box, user: str, source: str) -> dict[str, Any]:
    """Put a container on GPU 0; return its process once the hint at this user is there.

    A Docker that takes longer than a second is asked again after half a minute.
    """
    host.place(gpu(0, use(box.pid, 900)), gpu(1))
    until(lambda: json.loads(host.run("status", "--json").stdout)[0]["processes"])

    def found() -> dict[str, Any] | None:
        hint = (now := process(host))["hint"]
        return now if hint and (hint["user"], hint["source"]) == (user, source) else None

    return dict(until(found, ASKED_AGAIN, f"for a hint at {user}: {source}"))


@pytest.fixture
def ada(people: list[Person], folder: Path) -> Person:
    """A person with a home."""
    home = folder / "home" / people[0].name
    home.mkdir(parents=True)
    os.chown(home, people[0].uid, people[0].gid)
    people[0].set_home(str(home))
    return people[0]


SOURCES = {
    "a home": (["--volume={home}:/work"], 'container "{box}" has {home} mounted'),
    "part of a home, read-only": (
        ["--volume={home}/sets:/sets:ro"],
        'container "{box}" has {home}/sets mounted read-only',
    ),
    "its label": (["--label=canhazgpu.user={name}"], 'container "{box}" has the label canhazgpu.user={name}'),
    "its project": (
        ["--label=com.docker.compose.project.working_dir={home}/p"],
        'container "{box}" has the label com.docker.compose.project.working_dir={home}/p',
    ),
    "its environment": (["--env=USER={name}"], "its environment has USER={name}"),
    "--user": (["--user={uid}:{uid}"], 'container "{box}" was started with --user {uid}'),
}


@pytest.mark.parametrize(("options", "source"), SOURCES.values(), ids=SOURCES)
def test_a_hint_is_shown_with_its_source(
    serve: Serve, docker: Dockerd, ada: Person, folder: Path, options: list[str], source: str
) -> None:
    """A hint and its source are in `status --json` and in the violation, but prove no user."""
    names = {"home": folder / "home" / ada.name, "name": ada.name, "uid": ada.uid, "box": f"{ada.name}-job"}
    box = docker.start(f"--name={names['box']}", *(option.format(**names) for option in options))
    host = serve(docker)
    found = await_hint(host, box, ada.name, source.format(**names))
    assert found["hint"]["uid"] == ada.uid
    assert found["evidence"] == "unknown"
    assert found["container"] == {"runtime": "docker", "id": box.id, "name": names["box"]}
    (violation,) = until(lambda: json.loads(host.run("violations", "--open", "--json").stdout))
    assert (violation["person"], violation["uid"]) == (None, None)


def test_without_docker_the_kernel_is_asked_only(
    serve: Serve, docker: Dockerd, ada: Person, people: list[Person], folder: Path
) -> None:
    """Without Docker's socket, the mounts of the container are still a hint."""
    home = folder / "home" / ada.name
    box = docker.start(f"--label=canhazgpu.user={people[1].name}", f"--volume={home}:/x")
    await_hint(serve(), box, ada.name, f"docker {box.id[:12]} has {home} mounted")


def test_an_image_says_nothing_of_its_user(serve: Serve, docker: Dockerd, people: list[Person]) -> None:
    """The uid, environment and labels of an image are no hint; those given to `docker run` are."""
    ada, bob = people
    docker.build("ray:test", f"USER {ada.uid}", f"ENV USER={ada.name}", f"LABEL canhazgpu.user={ada.name}")
    host = serve(docker)
    box, chosen = docker.start(image="ray:test"), docker.start(f"--env=LOGNAME={bob.name}", image="ray:test")
    host.place(gpu(0, use(box.pid, 900)), gpu(1, use(chosen.pid, 900)))
    until(lambda: host.run("status", "--json").stdout.count('"pid"') >= 2)
    until(lambda: process(host)["container"]["name"], ASKED_AGAIN)  # Docker has answered for it,
    until(lambda: process(host, 1)["container"]["name"], ASKED_AGAIN)  # and for the other one.
    assert process(host, 1)["hint"]["source"] == f"its environment has LOGNAME={bob.name}"
    assert process(host)["hint"] is None


def test_two_homes_are_no_hint(
    serve: Serve, docker: Dockerd, ada: Person, people: list[Person], folder: Path
) -> None:
    """A container with the homes of two users has no hint."""
    homes = folder / "home"
    people[1].set_home(str(homes / people[1].name))
    box = docker.start(*(f"--volume={homes / one.name}:/{one.name}" for one in (ada, people[1])))
    host = serve(docker)
    host.place(gpu(0, use(box.pid, 900)), gpu(1))
    until(lambda: host.run("status", "--json").stdout.count('"pid"'))
    until(lambda: process(host)["container"]["name"], ASKED_AGAIN)
    assert process(host)["hint"] is None


@pytest.mark.parametrize("options", [[], ["--env=CANHAZGPU_RESERVATION"]], ids=["plain", "passed on"])
def test_a_run_of_docker(serve: Serve, docker: Dockerd, people: list[Person], options: list[str]) -> None:
    """The container descends from Docker's daemon, not from the run: only its environment says whose it is.

    Docker passes none of it by itself.
    """
    Path(docker.socket).chmod(0o666)
    host = serve(docker)
    words = people[0].command(*COMMAND, "run", "--", "sh", "-c", DETACHED, docker.socket, *options)
    with subprocess.Popen(
        words, env=host.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdin
        assert run.stdout
        pid = docker.pid(run.stdout.readline().strip())
        host.place(gpu(0, use(pid, 900)), gpu(1))
        until(lambda: json.loads(host.run("status", "--json").stdout)[0]["processes"])
        (row, _) = json.loads(host.run("status", "--json").stdout)
        with host.redis() as redis:
            usage = json.loads(redis.hget("canhazgpu:{testhost}:gpu:0", "usage"))
        (seen,) = usage["processes"]
        assert (seen["person"], seen["run"]) == (None, None)
        assert seen["reservation"] == (row["reservation"]["id"] if options else None)
        assert row["reservation"]["user"] == people[0].name
        run.stdin.close()
