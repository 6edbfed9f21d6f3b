"""The socket and the locks are deleted, occupied or duplicated."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemon import Daemon, until

LOCKS = ("s.lock", "state/lock", "state/redis/lock")


def delete(host: Daemon, *names: str) -> None:
    """Delete these files, like a cleaner of old files does."""
    for name in names:
        (host.folder / name).unlink(missing_ok=True)


def refused(other: Daemon) -> str:
    """Return the one line with which a service that may not start ends."""
    done = other.run("serve", timeout=60)
    *_, last = done.stderr.splitlines()
    assert done.returncode == 1, last
    return last


def logged(host: Daemon, event: str) -> list[dict[str, str]]:
    """Return the entries of the service's log."""
    lines = [line for line in host.log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def another(host: Daemon, name: str, change: Callable[[str], str] = str) -> Daemon:
    """Return a service with the settings of `host`, changed, and its own scenario and log."""
    settings = change((host.folder / "config.toml").read_text())
    folder = host.folder / name
    folder.mkdir()
    made = Daemon(folder)
    (folder / "config.toml").write_text(settings)
    return made


def own_state(settings: str) -> str:
    """Use another state directory."""
    return settings.replace('/state"', '/other-state"')


def test_a_deleted_socket_is_bound_anew(host: Daemon) -> None:
    """Soon the socket is back with its mode, and an open stream continues.

    The lock of Redis stays: without it, Redis is started again, which ends the streams.
    """
    path = host.folder / "s"
    before = path.stat()
    with socket.socket(socket.AF_UNIX) as reader:
        reader.settimeout(60)
        reader.connect(str(path))
        reader.sendall(b"GET /v1/events?follow=1&type=reservation HTTP/1.1\r\nHost: x\r\n\r\n")
        stream = reader.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        for _ in range(3):
            delete(host, "s", "s.lock")
            until(path.exists, 10)
            assert host.run("status").returncode == 0
        assert (path.stat().st_mode, (host.folder / "s.lock").exists()) == (before.st_mode, True)
        assert host.run("reserve").returncode == 0
        until(lambda: b"reservation.created" in stream.readline() or None, 10)
    assert host.stop() == 0
    assert not path.exists()


def test_a_folder_that_was_deleted_is_made_anew(folder: Path) -> None:
    """The socket's folder is created again, and so is the copy of the journal."""
    host = Daemon(folder)
    settings = folder / "config.toml"
    settings.write_text(settings.read_text().replace(f'{folder}/s"', f'{folder}/run/s"'))
    host.start()
    try:
        (folder / "run").rename(folder / "deleted")
        until((folder / "run" / "s").exists, 10)
        until((folder / "run" / "s.journal").exists, 10)
        assert host.run("status").returncode == 0
    finally:
        host.stop()


def test_a_second_service_never_starts_on_the_same_state(host: Daemon) -> None:
    """A second service is refused whatever was deleted before, and the first does not notice."""
    second = another(host, "second", lambda text: text.replace('/s"', '/second/s"'))
    delete(host, *LOCKS)
    said = refused(second)
    assert host.process is not None
    assert f"another canhazgpu service (PID {host.process.pid}) holds {host.folder}/state;" in said
    assert host.run("status").returncode == 0


def test_deletion_breaks_no_lock(host: Daemon) -> None:
    """A second service that starts right after the deletion is refused and changes nothing."""
    assert host.run("reserve", "--duration", "1h").returncode == 0
    assert host.process is not None
    host.process.send_signal(signal.SIGSTOP)  # So that it cannot be the first to notice.
    try:
        shutil.rmtree(host.folder / "state")
        delete(host, "s", "s.lock")
        of_state, of_socket = refused(another(host, "second")), refused(another(host, "third", own_state))
    finally:
        host.process.send_signal(signal.SIGCONT)
    first = f"another canhazgpu service (PID {host.process.pid}) holds {host.folder}"
    assert f"{first}/state;" in of_state
    assert f"{first}/s.lock;" in of_socket
    until((host.folder / "s").exists, 10)
    assert "IN USE by" in host.status()


@pytest.mark.skipif(os.geteuid() != 0, reason="root takes the place of another user")
def test_another_user_cannot_keep_a_service_from_starting(folder: Path) -> None:
    """Another user who binds the names of the locks cannot keep the service from starting."""
    paths = [folder / "state", folder / "s.lock", folder / "state/redis/lock"]
    code = (
        "import os, socket, sys; os.setuid(65534)\n"
        "held = [socket.socket(socket.AF_UNIX) for _ in sys.argv[1:]]\n"
        "for one, name in zip(held, sys.argv[1:]): one.bind(chr(0) + name); one.listen()\n"
        "print(flush=True); sys.stdin.read()"
    )
    names = [f"canhazgpu/{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}" for path in paths]
    words = [sys.executable, "-c", code, *names]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"\n"
        host = Daemon(folder).start()
        try:
            assert host.run("status").returncode == 0
            assert "holds" in refused(another(host, "second"))
        finally:
            host.stop()
            stranger.communicate()


def test_a_second_service_never_takes_the_socket(host: Daemon) -> None:
    """A second service with another state is refused, because somebody answers on the socket."""
    delete(host, *LOCKS)
    second = another(host, "second", own_state)
    before = (host.folder / "s").stat().st_ino
    said = refused(second)
    assert "another canhazgpu service (PID" in said
    assert (host.folder / "s").stat().st_ino == before
    assert host.run("status").returncode == 0


def test_a_socket_that_somebody_else_took_is_theirs(folder: Path) -> None:
    """Neither service replaces the other's socket; when the other has ended, the socket is back."""
    host = Daemon(folder, scan="5s").start()
    try:
        assert host.process is not None
        host.process.send_signal(signal.SIGSTOP)  # So that it cannot be the first to notice.
        delete(host, "s", "s.lock")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(folder / "s"))
            other.listen()
            taken = (folder / "s").stat().st_ino
            host.process.send_signal(signal.SIGCONT)
            (entry,) = until(lambda: logged(host, "socket_lost"), 15)
            assert f"(PID {os.getpid()})" in entry["reason"]
            assert host.stop() == 0  # And leaves what is not its own.
            assert (folder / "s").stat().st_ino == taken
            assert f"(PID {os.getpid()})" in refused(host)
        host.start()
        assert host.run("status").returncode == 0
    finally:
        host.stop()
    assert not (folder / "s").exists()


def test_what_is_no_socket_is_left_alone(folder: Path) -> None:
    """A regular file in place of the socket is named in the error, and nothing starts."""
    (folder / "s").write_text("precious")
    assert "the path exists and is not a socket" in refused(Daemon(folder))
    assert (folder / "s").read_text() == "precious"


def test_a_folder_without_room_for_the_socket_is_named(folder: Path) -> None:
    """Nothing starts, and the remedy is room, not another user or place."""
    host, place = Daemon(folder), folder / "run"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        settings = folder / "config.toml"
        settings.write_text(settings.read_text().replace(f'{folder}/s"', f'{place}/s"'))
        with suppress(OSError):
            (place / "log").write_bytes(bytes(1 << 16))
        assert f"No space left on device: make room in {place}" in refused(host)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("last", [107, 108])
def test_a_path_too_long_for_a_socket_is_refused(folder: Path, last: int) -> None:
    """A path that is too long is refused on one line; the longest possible one works."""
    host = Daemon(folder)
    longest = f"{folder}/".ljust(last, "x")
    settings = folder / "config.toml"
    settings.write_text(settings.read_text().replace(f'{folder}/s"', f'{longest}"'))
    checked = host.run("config", "check", str(settings))
    if last == 107:
        assert checked.returncode == 0
        host.start()
        assert host.stop() == 0
        return
    expected = (
        f"Error: {settings}: socket: expected a path of at most 107 bytes,"
        " because it is the path of a socket; this one has 108\n"
    )
    assert (checked.returncode, checked.stderr) == (2, expected)
    assert host.run("serve").stderr == expected


def test_the_sockets_of_redis_may_not_be_too_long_either(folder: Path) -> None:
    """The length is checked for the embedded Redis in state_dir, and for a socket in redis.url."""
    host, long = Daemon(folder), "x" * 100
    settings = folder / "config.toml"
    for change in (
        f'state_dir = "{folder}/{long}"',
        f'state_dir = "{folder}"\nredis.url = "unix:///{long}/redis.s"',
    ):
        settings.write_text(f'socket = "{folder}/s"\n{change}\n')
        checked = host.run("config", "check", str(settings))
        assert (checked.returncode, checked.stderr.count("\n")) == (2, 1)
        assert "of at most" in checked.stderr
