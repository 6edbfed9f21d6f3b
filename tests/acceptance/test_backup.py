"""Backup, restore and migration with live reservations: none is lost, and ended ones do not return."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from support.daemon import Daemon, until
from support.live_state import events, four_gpus, holds, running, take
from support.people import Person
from support.redis_lab import DURABLE, Server


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A service on four GPUs."""
    daemon = four_gpus(folder)
    yield daemon
    daemon.stop()


@pytest.fixture
def run(host: Daemon) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that runs on GPU 0."""
    with running(host) as process:
        yield process


def done(host: Daemon, *words: str) -> str:
    """Run one command; return its output."""
    ran = host.run(*words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_restored_backup_is_brought_up_to_date(host: Daemon, run: "subprocess.Popen[bytes]") -> None:
    """After a restore, newer reservations are kept and newer releases too, also if Redis was wiped."""
    file = host.folder / "b"
    take(host, "--gpu-ids", "1", "--duration", "4h", "--note", "old")
    take(host, "--gpu-ids", "2", "--duration", "4h")
    facts = json.loads(done(host, "backup", str(file), "--json"))
    assert (facts["host"], file.stat().st_mode & 0o777) == ("testhost", 0o600)
    assert host.run("release", "--gpu-ids", "1").returncode == 0
    take(host, "--gpu-ids", "3", "--note", "new")
    before = holds(host)
    assert sorted(before) == [0, 2, 3]
    host.stop()
    assert "Restored" in done(host, "restore", str(file))
    host.start()
    until(lambda: holds(host) == before)
    assert run.poll() is None
    assert [one["reason"] for one in events(host, "reservation.released")] == ["stale"]
    assert [one["note"] for one in events(host, "reservation.restored")] == ["new"]


def test_a_backup_alone_is_enough(host: Daemon, run: "subprocess.Popen[bytes]") -> None:
    """If journal and Redis are lost, everything in the backup is restored, and the run continues."""
    file = host.folder / "b"
    take(host, "--gpu-ids", "1", "--note", "mine")
    assert host.run("admin", "drain", "2", "--reason", "fan").returncode == 0
    done(host, "backup", str(file))
    before = holds(host)
    host.stop()
    subprocess.run(["rm", "-r", str(host.folder / "state")], check=True)
    done(host, "restore", str(file))
    host.start()
    until(lambda: holds(host) == before)
    assert "DRAINED (fan)" in host.status()
    run.kill()
    until(lambda: "GPU 0: AVAILABLE" in host.status())


def test_what_is_no_whole_backup_changes_nothing(host: Daemon) -> None:
    """A damaged backup is refused on one line, and Redis is unchanged."""
    file = host.folder / "b"
    take(host, "--gpu-ids", "1")
    done(host, "backup", str(file))
    text = bytearray(file.read_bytes())
    middle = len(text) // 2
    text[middle] ^= 1
    whole = file.read_bytes()
    damaged = {"cut": whole[:middle], "changed": bytes(text), "longer": whole + b"x", "not one": b"x" * 100}
    take(host, "--gpu-ids", "2")
    before = holds(host)
    host.stop()
    for damage, content in damaged.items():
        file.write_bytes(content)
        ran = host.run("restore", str(file))
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), (damage, ran.stderr)
        assert "nothing was changed" in ran.stderr, damage
    host.start()
    assert holds(host) == before
    assert events(host, "reservation.restored") == []


def test_the_service_must_be_stopped(host: Daemon) -> None:
    """While the service runs, restore and migrate are refused on one line and change nothing."""
    file = host.folder / "b"
    done(host, "backup", str(file))
    for words in (("restore", str(file)), ("redis", "migrate", "--to", "redis://127.0.0.1:1")):
        ran = host.run(*words)
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
        assert "systemctl stop canhazgpu" in ran.stderr


def test_only_administrators(host: Daemon, people: list[Person]) -> None:
    """Another user is refused on one line."""
    for words in (("backup", "/nowhere"), ("restore", "/nowhere"), ("redis", "migrate", "--to", "redis://h")):
        ran = host.run(*words, person=people[0])
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
        assert "only root and the service's user" in ran.stderr


def test_a_disk_that_is_full_leaves_nothing(host: Daemon) -> None:
    """The backup before stays whole, and no part of the new one is left."""
    disk = host.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done(host, "backup", str(disk / "b"))
        before = (disk / "b").read_bytes()
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(512))
        ran = host.run("backup", str(disk / "b"))
        assert (disk / "b").read_bytes() == before
        assert sorted(path.name for path in disk.iterdir()) == ["b", "filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert ran.returncode == 1
    assert ran.stderr == (
        f"Error: {disk}/b was not written: no space is left in {disk}: "
        "free some space there, or name a file on another disk\n"
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("dir/", "is a directory: name a file in it, such as {folder}/dir/canhazgpu.backup"),
        ("dir", "is a directory: name a file in it, such as {folder}/dir/canhazgpu.backup"),
        ("pipe", "is not a regular file, and would be replaced: name another file"),
        ("none/b", "was not written: there is no directory {folder}/none: create it, or name another file"),
        ("file/b", "was not written: there is no directory {folder}/file: create it, or name another file"),
    ],
)
def test_what_cannot_be_a_backup_is_left_alone(host: Daemon, target: str, said: str) -> None:
    """One line says what is wrong with the name and what to do."""
    folder = host.folder
    (folder / "dir").mkdir()
    (folder / "file").write_text("")
    os.mkfifo(folder / "pipe")
    before = sorted(folder.iterdir())
    ran = host.run("backup", f"{folder}/{target}")
    assert ran.returncode == 1
    assert ran.stderr == f"Error: {folder}/{target} {said.format(folder=folder)}\n"
    assert sorted(folder.iterdir()) == before
    assert (folder / "pipe").is_fifo()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_is_no_backup(folder: Path, make: Callable[[Path], None]) -> None:
    """`restore` does not wait for somebody to write into a pipe, and refuses a folder in one line."""
    make(folder / "backup")
    ran = Daemon(folder).run("restore", str(folder / "backup"))
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
    assert "not a regular file; nothing was changed" in ran.stderr


@pytest.mark.usefixtures("run")
def test_migrate_to_another_redis(host: Daemon) -> None:
    """After a migration everything is in the new Redis, and the service continues there."""
    take(host, "--gpu-ids", "1", "--note", "mine")
    before = holds(host)
    host.stop()
    server = Server(host.folder, *DURABLE)
    try:
        url = f"redis://127.0.0.1:{server.port}"
        printed = done(host, "redis", "migrate", "--to", url)
        assert f'[redis]\nurl = "{url}"' in printed
        assert "2 reservations" in printed
        again = host.run("redis", "migrate", "--to", url)
        assert (again.returncode, again.stderr.count("\n")) == (1, 1), again.stderr
        assert "--replace" in again.stderr
        facts = json.loads(done(host, "redis", "migrate", "--to", url, "--replace", "--json"))
        assert (facts["reservations"], facts["settings"]) == (2, {"redis": {"url": url}})
        with host.folder.joinpath("config.toml").open("a") as file:
            file.write(f'[redis]\nurl = "{url}"\n')
        host.start()
        assert holds(host) == before
        assert events(host, "reservation.restored") == []
        with Redis(port=server.port) as redis:
            assert {key.partition(b"}")[0] for key in list(redis.keys())} == {
                b"canhazgpu:{testhost",
                b"canhazgpu:hosts",
                b"canhazgpu:{canhazgpu:hosts",
            }
        host.stop()
    finally:
        server.close()


def test_a_user_of_redis_who_may_not(folder: Path) -> None:
    """Missing rights of a user of Redis are reported on one line."""
    server = Server(folder, *DURABLE)
    try:
        with server.client() as redis:
            redis.execute_command("ACL SETUSER", "u", "on", ">p", "~*", "+@all", "-keys")
        daemon = Daemon(folder, f'[redis]\nurl = "redis://u:p@127.0.0.1:{server.port}"\n')
        ran = daemon.run("backup", str(folder / "b"))
    finally:
        server.close()
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
    assert "+keys +dump" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "http://h"), "redis+sentinel://"),
        (("--to", "redis://u:secret@h"), "--password-file"),
        (("--to", "redis://h", "--password-file", "/nowhere"), "--password-file: /nowhere: No such file"),
    ],
)
def test_slips_of_migrate(folder: Path, words: tuple[str, ...], said: str) -> None:
    """An impossible target is refused before anything is done."""
    ran = Daemon(folder).run("redis", "migrate", *words)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert said in ran.stderr
    assert "secret" not in ran.stderr
