"""While Redis, its disk or the driver is down, the last known state is shown with its age and the reason."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, gpu, until, use
from support.descriptors import none_left
from support.exit_codes import code_of
from support.redis import redis_binary

from canhazgpu.client import Client
from canhazgpu.events.redis_client.store import StoreDown
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.outage import Outage

SILENCE = "Redis does not answer"


@contextmanager
def server(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A Redis that is not the service's own."""
    process = subprocess.Popen(
        [redis_binary(), *f"--port 0 --unixsocket {folder}/r --dir {folder} --appendonly yes".split()],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def redis_pid(host: Daemon) -> int:
    """Return the process of the embedded Redis."""
    pid: int = host.redis().info("server")["process_id"]
    return pid


def rows(host: Daemon) -> list[dict[str, Any]]:
    """Return `status --json`."""
    found: list[dict[str, Any]] = json.loads(host.run("status", "--json").stdout)
    return found


def check(host: Daemon, reason: str, *, may_fit: bool = False) -> None:
    """Check that the state is shown with this reason and its age, and that changes are refused with it."""
    done = host.run("status")
    held, free, used = done.stdout.splitlines()
    assert held.startswith("GPU 0: IN USE by root for 0h "), held
    assert held.endswith("[validated: no actual usage detected]"), held
    assert re.match(r"GPU 1: UNKNOWN \(available 0h \dm ", free), free
    assert free.endswith(f"s ago; {reason})"), free
    assert used.startswith("GPU 2: IN USE WITHOUT RESERVATION by user bob - 1024MB used by PID "), used
    assert done.returncode == 0
    warned = done.stderr
    assert re.match(r"Warning: last known 0h \dm ", warned), warned
    assert warned.endswith(f"s ago: {reason}\n"), warned
    assert warned.count("\n") == 1, warned
    found = rows(host)
    assert [one["status"] for one in found] == ["IN_USE", "UNKNOWN", "UNRESERVED"]
    assert {one["stale_reason"] for one in found} == {reason}
    assert all(0 <= one["stale_s"] < 600 for one in found)
    assert found[0]["reservation"]["user"] == "root"
    assert [one["id"] for one in Client(str(host.folder / "s")).get("/v1/reservations")] == [
        found[0]["reservation"]["id"]
    ]
    for words in (
        ["reserve"],
        ["reserve", "--wait"],
        ["run", "--new", "--", "true"],
        ["release"],
        ["extend"],
    ):
        if may_fit and "--wait" in words:  # Its place in the queue may fit; then it waits.
            continue
        refused = host.run(*words)
        # In a page that Redis had just given back. If it was the release, there is nothing to extend.
        if may_fit and (refused.returncode == 0 or "you have no manual reservation" in refused.stderr):
            continue
        assert refused.returncode == code_of(words, 1), (words, refused)
        assert refused.stderr.startswith(f"Error: {reason} ("), (words, refused.stderr)
        assert refused.stderr.count("\n") == 1


def doctor_agrees(host: Daemon, reason: str, remedy: str) -> None:
    """Wait until doctor reports this reason and this remedy; Redis may be up between two attempts."""
    unknown = "their contents cannot be checked"
    expected = {("service", reason), ("redis", reason), ("streams", unknown)}

    def agreeing() -> list[dict[str, str]] | None:
        rows: list[dict[str, str]] = json.loads(host.run("doctor", "--json").stdout)
        named = [row for row in rows if row["check"] in ("service", "redis", "streams")]
        bad = {(row["check"], row["found"]) for row in named if row["state"] != "ok"}
        return named if bad == expected else None

    rows = until(agreeing, 30)
    assert {row["remedy"] for row in rows if row["state"] != "ok"} == {remedy}
    runs = next(row["found"] for row in rows if row["check"] == "redis")
    assert "the service's own, as of its last start" in runs, runs


def busy(host: Daemon) -> Daemon:
    """Start a service with three GPUs: reserved, free, and used without a reservation."""
    host.place(gpu(0, memory_used_mb=45), gpu(1, memory_used_mb=45), gpu(2, use(os.getpid(), 1024, "bob")))
    host.start()
    until(lambda: "WITHOUT RESERVATION" in host.status())
    assert host.run("reserve", "--gpu-ids", "0").returncode == 0
    host.status()
    return host


def recovers(host: Daemon) -> None:
    """Check that everything is as before once the cause is gone."""
    until(lambda: "GPU 1: AVAILABLE" in host.status(), 20)
    done = host.run("status")
    assert "GPU 0: IN USE by root" in done.stdout
    assert done.stderr == ""
    # What Redis took while its answers were lost is given back after some seconds, also a place in the queue.
    until(lambda: host.run("reserve", "--gpu-ids", "1").returncode == 0, 20)


@pytest.mark.slow(20)
def test_redis_that_is_not_there(folder: Path) -> None:
    """If Redis is down at the start, the service shows the content of its journal, and grants nothing."""
    host = Daemon(folder, f'[redis]\nurl = "unix://{folder}/r"\n')
    try:
        with server(folder):
            busy(host)
        reason = f"{SILENCE}: nothing is listening on {folder}/r"
        until(lambda: reason in host.status())
        check(host, reason)
        (folder / "r").unlink()
        reason = f"{SILENCE}: there is no socket {folder}/r"
        until(lambda: reason in host.status())
        host.stop()
        host.start()
        until(lambda: "IN USE by root" in host.status() and "WITHOUT RESERVATION" in host.status())
        done = host.run("status")
        held, free, used = done.stdout.splitlines()
        assert held.startswith("GPU 0: IN USE by root for 0h "), held
        assert free == f"GPU 1: UNKNOWN (available; {reason})"
        assert used.startswith("GPU 2: IN USE WITHOUT RESERVATION by user bob"), used
        assert done.stderr == f"Warning: {reason}\n"
        assert reason in host.run("reserve").stderr
        with server(folder):
            recovers(host)
            assert host.stop() == 0
    finally:
        host.stop()


@pytest.mark.slow(20)
def test_redis_that_is_stopped(folder: Path) -> None:
    """If Redis is stopped, the reason names its process and the command that resumes it."""
    host = busy(Daemon(folder))
    pid = redis_pid(host)
    try:
        os.kill(pid, signal.SIGSTOP)
        try:
            reason = f"{SILENCE}: it (PID {pid}) is stopped"
            assert reason in host.run("status").stdout
            refused = host.run("reserve")
            assert refused.stderr == f"Error: {reason} (to resume it: kill -CONT {pid})\n"
            check(host, reason)
            doctor_agrees(host, reason, f"to resume it: kill -CONT {pid}")
        finally:
            os.kill(pid, signal.SIGCONT)
        recovers(host)
    finally:
        host.stop()


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """A small file system at the service's state directory."""
    state = folder / "state"
    state.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mount needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield state
    subprocess.run(["umount", "--lazy", str(state)], check=True)


@contextmanager
def filled(path: Path) -> Iterator[None]:
    """Fill a disk, including the space that its server frees when it truncates its file."""
    over = threading.Event()

    def fill() -> None:
        with path.open("wb", buffering=0) as filler:
            while not over.wait(0.005):
                with suppress(OSError):
                    while True:
                        filler.write(b"x" * 512)

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        yield
    finally:
        over.set()
        filler.join()
        path.unlink()


@pytest.mark.slow(30)
def test_a_disk_that_is_full(folder: Path, small: Path) -> None:
    """A full disk is the reason until there is space again; then everything is as before."""
    host = busy(Daemon(folder))
    try:
        with filled(small / "filler"):
            reason = f"{SILENCE}: no space left on {small}"
            until(lambda: reason in host.run("extend", "--gpu-ids", "1").stderr, 30)
            until(lambda: reason in host.status(), 20)
            check(host, reason, may_fit=True)
            doctor_agrees(host, reason, "free some space there")
            log = host.log.read_text()
            assert 1 <= log.count('"redis_died"') <= 3, log
            assert log.count('"redis_server_not_recorded"') <= 1, log
        until(lambda: rows(host)[0]["stale_s"] is None, 20)
        host.run("release", "--gpu-ids", "1")
        host.run("reserve", "--gpu-ids", "0")
        recovers(host)
    finally:
        host.stop()


def test_the_words_of_a_server_that_died(folder: Path) -> None:
    """The last words of a server that died are the reason while they may be the cause."""
    redis = EmbeddedRedis(folder)
    outage = Outage(redis.url, redis)
    down = StoreDown(f"{SILENCE}: nobody listens")
    assert outage.explain(down)[0] == str(down)
    redis.last_words, redis.died = "Read-only file system; Exiting...", time.monotonic()
    reason, remedy = outage.explain(down)
    assert reason == f"{SILENCE}: it ended with: Read-only file system; Exiting..."
    assert str(redis.output) in remedy
    with none_left():  # Nor does looking for the cause end the service.
        assert outage.explain(down)[0] == reason
    redis.obstacle = "state_dir: Read-only file system"
    assert outage.explain(down) == (
        f"{SILENCE}: {redis.obstacle}",
        "fix this; it is then started automatically",
    )
    redis.obstacle, redis.died = None, time.monotonic() - 60
    assert outage.explain(down)[0] == str(down)


@pytest.mark.parametrize("cause", ["LIB_RM_VERSION_MISMATCH", "hang"])
def test_a_driver_that_is_away(folder: Path, cause: str) -> None:
    """If the driver is down, nothing is granted on an old scan, but a release is possible."""
    host = Daemon(folder, scan="100ms")
    busy(host)
    try:
        broken = {"hang": "1h"} if cause == "hang" else {"error": cause}
        host.place(gpu(0, **broken), gpu(1), gpu(2))
        said = "no answer from the driver in 2 s" if cause == "hang" else "Driver/library version mismatch"
        remedy = "the host needs a restart" if cause == "hang" else "reboot, or reload the nvidia modules"
        until(lambda: said in host.run("status").stderr)
        warned = host.run("status").stderr
        assert re.match(r"Warning: last known 0h \dm ", warned), warned
        assert remedy in warned
        refused = host.run("reserve", "--gpu-ids", "1")
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Error: the GPUs cannot be read: {said} (")
        assert remedy in refused.stderr
        assert host.run("release", "--gpu-ids", "0").returncode == 0
        lines = until(lambda: "no scan for" in host.status() and host.status(), 40).splitlines()
        assert all(f": UNKNOWN ({said}, no scan for 0h " in line for line in lines), lines
    finally:
        host.stop()
