"""`canhazgpu run -- docker run`: the command that Docker gets, from a program that prints its arguments."""

import subprocess
from collections.abc import Iterator

import pytest
from support.daemon import COMMAND, Daemon, gpu, until

from canhazgpu.client import Client

UUIDS = ("GPU-aaaaaaaa", "GPU-bbbbbbbb")


@pytest.fixture
def two(host: Daemon) -> Iterator[Daemon]:
    """A host with two GPUs, and programs of its own for docker and sudo."""
    host.place(*(gpu(index, uuid=uuid, memory_used_mb=45) for index, uuid in enumerate(UUIDS)))
    until(lambda: host.status().count("AVAILABLE") == 2)
    programs = host.folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, script in {"docker": 'echo "$@"', "sudo": 'exec env -i "PATH=$PATH" "$@"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    yield host
    host.run("admin", "release", "--all")


def run(host: Daemon, line: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line on two reserved GPUs, which a run before may not have released yet."""
    until(lambda: host.status().count("AVAILABLE") == 2)
    environment = host.environment
    path = f"{host.folder / 'programs'}:{environment['PATH']}"
    return subprocess.run(
        [*COMMAND, "run", "--gpus", "2", "--", *line.split()],
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("sudo", ["", "sudo "])
def test_a_container_gets_as_many_of_the_reserved_gpus_as_it_asks_for(two: Daemon, sudo: str) -> None:
    """One of two, or both, also if Docker is started with sudo."""
    for count, device in (("1", f"device={UUIDS[0]}"), ("all", f'"device={",".join(UUIDS)}"')):
        done = run(two, f"{sudo}docker run --gpus {count} IMAGE")
        variables = "--env CANHAZGPU_RESERVATION --env CANHAZGPU_TOKEN"
        assert (done.stdout, done.stderr) == (f"run {variables} --gpus={device} IMAGE\n", "")


def test_more_gpus_than_are_reserved_are_refused(two: Daemon) -> None:
    """`run` ends with 125 and one line, does not start Docker, and reserves nothing."""
    done = run(two, "docker run --gpus 3 IMAGE")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "Error: --gpus 3: the container asks for 3 GPUs, but the run has 2;"
        " reserve more with `canhazgpu run --gpus N`, or use --gpus all\n"
    )
    until(lambda: Client(str(two.folder / "s")).get("/v1/reservations") == [])
