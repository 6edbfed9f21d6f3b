"""An unreadable or endless reservation does not affect anybody else."""

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.daemon import Daemon, gpu, until

from canhazgpu.service.redis_server.server_program import any_server

KEY = "canhazgpu:{testhost}:reservations"
BROKEN: dict[str, Callable[[str], str]] = {
    "a float": lambda text: re.sub(r'"expires_ms":\d+', '"expires_ms":1e+14', text),
    "no JSON": lambda text: text[:-9],
    "no GPUs": lambda text: json.dumps({**json.loads(text), "gpus": None}),
    "another shape": lambda _: "[1]",
    "too late": lambda text: json.dumps({**json.loads(text), "expires_ms": 10**18}),
}


@pytest.fixture
def two(host: Daemon) -> Daemon:
    """A host with two idle GPUs."""
    host.place(gpu(0), gpu(1))
    until(lambda: "GPU 1: AVAILABLE" in host.status())
    return host


def test_nothing_lasts_for_ever(two: Daemon) -> None:
    """However often it is extended, a reservation ends within a hundred years."""
    assert two.run("reserve", "--gpu-ids", "0", "--duration", "36000d").returncode == 0
    with two.redis() as redis:
        before = redis.hgetall(KEY)
        done = two.run("extend", "--duration", "501d")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(
            "Error: the reservation would exceed your limit of 36500d; 36000d are left"
        )
        assert redis.hgetall(KEY) == before
    assert two.run("extend", "--duration", "499d").returncode == 0
    assert "(manual, expires in 8759" in two.status()
    two.stop()
    two.start()
    assert "(manual, expires in 8759" in two.status()


def _answers(redis: Redis) -> bool:
    with suppress(RedisError):
        return bool(redis.ping())
    return False


def _broken(host: Daemon, how: Callable[[str], str]) -> bytes:
    """Damage the only record while no service runs; return its id."""
    folder = host.folder / "state" / "redis"
    words = [
        "--port",
        "0",
        "--unixsocket",
        "redis.sock",
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "yes",
    ]
    server = subprocess.Popen([any_server(), *words], stdout=subprocess.DEVNULL)
    try:
        until((folder / "redis.sock").exists)
        with host.redis() as redis:
            until(lambda: _answers(redis))
            ((name, text),) = redis.hgetall(KEY).items()
            redis.hset(KEY, name, how(text.decode()))
            return bytes(name)
    finally:
        server.terminate()
        server.wait()


def test_a_record_that_cannot_be_read_is_put_back_from_the_journal(two: Daemon) -> None:
    """An unreadable record is restored from the journal, with the next change at the latest."""
    two.run("reserve", "--gpu-ids", "0")
    with two.redis() as redis:
        ((name, text),) = redis.hgetall(KEY).items()
        redis.hset(KEY, name, b"broken")
        two.run("reserve", "--gpu-ids", "1")
        two.run("extend", "--gpu-ids", "1")
        assert json.loads(redis.hget(KEY, name))["expires_ms"] == json.loads(text)["expires_ms"]
    assert two.status().count("IN USE by root") == 2


@pytest.mark.parametrize("how", BROKEN)
def test_a_record_that_cannot_be_read_is_kept_apart(two: Daemon, how: str) -> None:
    """Its GPU stays reserved, everything else works, and an administrator can release it."""
    two.run("reserve", "--gpu-ids", "0")
    two.stop()
    (two.folder / "state" / "journal").unlink()
    (two.folder / "s.journal").unlink()
    name = _broken(two, BROKEN[how])
    two.start()
    for _ in range(2):
        assert two.status().startswith(f"GPU 0: UNKNOWN (its reservation {name.decode()} cannot be read")
        assert two.run("reserve", "--gpus", "2").returncode == 1
        assert two.run("run", "--", "true").returncode == 0
        assert two.run("queue").returncode == 0
        until(lambda: "GPU 1: AVAILABLE" in two.status())
        assert two.log.read_text().count('"unreadable"') == 1
        two.log.write_text("")
        two.stop()
        two.start()
    assert two.run("admin", "release", "--gpu-ids", "0").stdout == "Released 1 GPU(s): [0]\n"
    until(lambda: "GPU 0: AVAILABLE" in two.status())
    with two.redis() as redis:
        assert redis.hgetall(KEY) == {}
