"""If the service is stopped or frozen, commands say so soon, with the command that resumes it."""

import json
import os
import pty
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon
from support.eventually import slowness
from support.people import Person

from canhazgpu.client import Client, Unreachable


def begin(host: Daemon, *words: str, stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    """Start a command against a host."""
    return subprocess.Popen(
        [*COMMAND, *words], env=host.environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def test_a_service_that_is_stopped_is_named(host: Daemon) -> None:
    """Every command ends after 10 s with the process and the remedy, and works again afterwards."""
    assert host.process is not None
    pid = host.process.pid
    host.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        commands = [
            begin(host, *words)
            for words in (
                ["status"],
                ["reserve"],
                ["run", "--", "true"],
                ["release"],
                ["violations"],
                ["events"],
            )
        ]
        said = [command.communicate(timeout=120)[1] for command in commands]
        assert time.monotonic() - began < 20 * slowness()
    finally:
        host.process.send_signal(signal.SIGCONT)
    expected = f"the service (PID {pid}) is stopped; to resume it: kill -CONT {pid}\n"
    assert {line.removeprefix("Error: ").removeprefix("no service: ") for line in said} == {expected}
    assert [command.returncode for command in commands] == [3, 3, 125, 3, 3, 3]
    assert host.run("status").returncode == 0


def test_on_a_terminal_it_is_said_what_is_waited_for(host: Daemon) -> None:
    """After 2 s the command says what it waits for, and succeeds if the service continues in time."""
    assert host.process is not None
    reader, terminal = pty.openpty()
    host.process.send_signal(signal.SIGSTOP)
    try:
        command = begin(host, "status", stderr=terminal)
        said = ""
        while not said.endswith("\n"):  # The terminal may pass on its end by itself.
            said += os.read(reader, 1000).decode()
    finally:
        host.process.send_signal(signal.SIGCONT)
    pid = host.process.pid
    assert said == f"Waiting for the service (PID {pid}), which is stopped: kill -CONT {pid}\r\n"
    assert command.communicate(timeout=60)[0].startswith("GPU 0: ")
    assert command.returncode == 0
    os.close(terminal)
    os.close(reader)


def test_doctor_says_the_same(host: Daemon) -> None:
    """Doctor says it once, without suggesting a start, and waits no longer than other commands."""
    assert host.process is not None
    pid, began = host.process.pid, time.monotonic()
    host.process.send_signal(signal.SIGSTOP)
    try:
        rows = json.loads(host.run("doctor", "--json").stdout)
    finally:
        host.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 20 * slowness(), "that is twice the time of the others"
    found = {(row["check"], row["found"]): row["remedy"] for row in rows if row["state"] != "ok"}
    remedy = f"to resume it: kill -CONT {pid}"
    assert found["service", f"the service (PID {pid}) is stopped"] == remedy
    assert found["streams", "their contents cannot be checked"] == remedy
    (redis,) = [row["found"] for row in rows if row["check"] == "redis" and "(" in row["found"]]
    assert "the service's own, as of its last start" in redis


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("missing", "set $CANHAZGPU_SOCKET"),
        ("left", "the service has ended: start it"),
        ("file", "remove it and start it"),
        ("file/s", "part of the path is a file"),
        ("long" * 30, "at most 107 bytes"),
        ("full", "whether it is stopped"),
    ],
)
def test_the_remedy_fits_the_reason(
    folder: Path, path: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reason has its own remedy, and the service is to be started only if nobody listens."""
    monkeypatch.setattr("canhazgpu.client.connection.HALTED_TIME", 0.2)
    (folder / "file").touch()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "left"))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(folder / "full"))
        listener.listen(0)
        first.connect(str(folder / "full"))
        with pytest.raises(Unreachable) as trouble:
            Client(str(folder / path)).status()
    assert remedy in trouble.value.remedy


def test_one_that_runs_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is busy is waited for longer, and the message says that it is running."""
    monkeypatch.setattr("canhazgpu.client.connection.SAY_AFTER", 0.1)
    monkeypatch.setattr("canhazgpu.client.connection.HALTED_TIME", 0.2)
    monkeypatch.setattr("canhazgpu.client.connection.ANSWER_TIME", 0.5)
    said: list[str] = []
    monkeypatch.setattr("canhazgpu.client.connection.WAITING", [said.append])
    client = Client(str(folder / "s"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        began = time.monotonic()
        with pytest.raises(Unreachable, match="is running but does not answer"):
            client.status()
        assert time.monotonic() - began >= 0.5
    assert said == [f"Waiting for the service (PID {os.getpid()})"]


def remedy_for(person: Person, path: Path) -> str:
    """Return the remedy that a person gets, who has no capabilities."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - it is another process
        try:
            os.setgroups([])
            os.setgid(person.gid)
            os.setuid(person.uid)
            Client(str(path)).status()
        except Unreachable as trouble:
            os.write(writer, trouble.remedy.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def test_what_is_not_permitted_is_named(host: Daemon, people: list[Person]) -> None:
    """The remedy names the first closed folder on the way, or the socket, with the command that opens it."""
    path = host.folder / "s"
    path.chmod(0o600)
    assert f"`chmod 0666 {path}`" in remedy_for(people[1], path)
    host.folder.chmod(0o700)
    assert f"you do not have permission to enter {host.folder}/: " in remedy_for(people[1], path)
    host.folder.chmod(0o755)
