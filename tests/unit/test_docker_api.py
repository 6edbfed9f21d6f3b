"""Container details from Docker's socket.

Only what was chosen for the container, and always within a deadline.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.docker_socket import DockerSocket, answer, docker_socket, sending

from canhazgpu.service.identity import docker_api
from canhazgpu.service.identity.docker_api import ContainerFacts, DockerAway, inspect

A = "a1" * 32


@pytest.fixture
def docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerSocket]:
    """A socket that sends a prepared answer."""
    monkeypatch.setattr(docker_api, "DEADLINE", 60.0)
    with docker_socket(folder / "d") as made:
        yield made


def test_what_the_image_has_by_itself_is_nobodys_choice(docker: DockerSocket) -> None:
    """Labels, user and environment of the image are reported separately from those of the container."""
    docker.have(A, User="1000:100", Labels={"a": "1", "b": "2"}, Env=["USER=ray"])
    docker.image(User="1000:100", Labels={"a": "1"}, Env=["USER=ray"])
    assert inspect(docker.path, A) == ContainerFacts("train", "", {"b": "2"}, "1000", frozenset({"USER=ray"}))
    docker.have(A, User="1001:1", Labels=None, Env=None)
    assert inspect(docker.path, A) == ContainerFacts("train", "1001", {}, "1000", frozenset({"USER=ray"}))


def test_without_a_daemon_or_a_container_there_is_nothing(docker: DockerSocket, folder: Path) -> None:
    """Without a daemon, or for an unknown container, there are no details; a lost image is no error."""
    assert inspect(str(folder / "absent"), A) is None
    assert inspect(docker.path, A) is None
    docker.have(A, User="1000")
    assert inspect(docker.path, A) == ContainerFacts("train", "1000", {}, "", frozenset())


@pytest.mark.parametrize("text", [b"", b"HTTP/1.0 500 no\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n{", b"\0" * 9,
                                  answer(200, {"Name": 5}), answer(200, [])])  # fmt: skip
def test_an_answer_that_is_none(docker: DockerSocket, text: bytes) -> None:
    """An invalid answer means that the daemon does not work now, and is asked again later."""
    docker.answers[f"/containers/{A}/json"] = sending(text)
    with pytest.raises(DockerAway):
        inspect(docker.path, A)


def test_a_daemon_that_does_not_answer_in_time(docker: DockerSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that hangs, sends slowly or sends without end is given up after the deadline."""
    monkeypatch.setattr(docker_api, "DEADLINE", 0.3)

    def hang(_: socket.socket) -> None:
        docker.stopping.wait(60)

    def drip(link: socket.socket) -> None:
        while not docker.stopping.wait(0.05):
            link.sendall(b"H")

    def flood(link: socket.socket) -> None:
        while not docker.stopping.is_set():
            link.sendall(b"H" * 65536)

    for way in (hang, drip, flood):
        docker.answers[f"/containers/{A}/json"] = way
        began = time.monotonic()
        with pytest.raises(DockerAway):
            inspect(docker.path, A)
        assert time.monotonic() - began < 40  # It would hang for a minute.


def test_a_socket_that_nobody_listens_at(folder: Path) -> None:
    """A socket that a killed daemon left behind counts as no daemon."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "d"))
    with pytest.raises(DockerAway):
        inspect(str(folder / "d"), A)
