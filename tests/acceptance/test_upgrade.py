"""The server of the state is replaced: by a newer one nothing is lost, by an older one nothing is started."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.daemon import COMMAND, Daemon, gpu, until
from support.redis import debians_redis, old_redis, valkey


@pytest.fixture
def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a server the first on PATH, as an update of the host's packages does."""
    place = folder / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place), prepend=":")

    def replace(program: str) -> None:
        for path in place.iterdir():
            path.unlink()
        (place / Path(program).name).symlink_to(program)

    return replace


@pytest.fixture
def host(folder: Path) -> Iterator[Daemon]:
    """A host of three GPUs; its service is not started yet."""
    daemon = Daemon(folder)
    daemon.place(*(gpu(index) for index in range(3)))
    yield daemon
    daemon.stop()


@pytest.fixture
def run() -> Iterator[Callable[[Daemon], None]]:
    """Start a command that runs on GPU 0 until the test is over."""
    started: list[subprocess.Popen[bytes]] = []

    def start(host: Daemon) -> None:
        words = [*COMMAND, "run", "--gpu-ids", "0", "--", "sleep", "600"]
        started.append(subprocess.Popen(words, env=host.environment, stderr=subprocess.DEVNULL))

    yield start
    for process in started:
        process.kill()
        process.wait()


def held(host: Daemon) -> dict[int, str]:
    """Which reservation holds which GPU."""
    rows = json.loads(host.run("status", "--json").stdout)
    return {row["gpu_id"]: row["reservation"]["id"] for row in rows if row["reservation"]}


def doctor(host: Daemon) -> str:
    """What doctor says of Redis."""
    lines = host.run("doctor").stdout.splitlines()
    return "\n".join(line for line in lines if "redis" in line or "valkey" in line)


def server(host: Daemon) -> str:
    """Which server runs, by its own word."""
    with host.redis() as redis:
        info = redis.info("server")
    return (
        f"valkey {info['valkey_version']}" if "valkey_version" in info else f"redis {info['redis_version']}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("newer", ["debian", "valkey"])
def test_redis_6_2_is_upgraded_in_place(
    host: Daemon,
    run: Callable[[Daemon], None],
    install: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    newer: str,
) -> None:
    """After an upgrade from Redis 6.2, a run, a manual reservation and the history are kept."""
    program = debians_redis(monkeypatch) if newer == "debian" else valkey()
    install(old_redis())
    host.start()
    assert server(host).startswith("redis 6.2.")
    run(host)
    until(lambda: 0 in held(host))
    assert host.run("reserve", "--gpu-ids", "1", "--duration", "4h").returncode == 0
    before, events = held(host), host.run("events", "--json").stdout
    host.stop()
    install(program)
    host.start()
    assert not server(host).startswith("redis 6.2.")
    assert f"{server(host)}: the service runs its own" in doctor(host)
    assert held(host) == before
    assert host.run("events", "--json").stdout.startswith(events)
    assert "redis_lost_state" not in host.log.read_text()
    assert host.run("reserve", "--gpu-ids", "2", "--duration", "1h").returncode == 0
    host.stop()
    host.start()
    assert sorted(held(host)) == [0, 1, 2]


def test_the_server_that_wrote_the_state_is_preferred(host: Daemon, install: Callable[[str], None]) -> None:
    """The server that wrote the data is preferred to an older one on PATH, and `doctor` names it."""
    install(valkey())
    host.start()
    wrote = server(host)
    host.stop()
    install(old_redis())
    host.start()
    assert server(host) == wrote
    assert f"{wrote}: the service runs its own" in doctor(host)


def test_where_no_server_can_read_the_state_nothing_is_started(host: Daemon, folder: Path) -> None:
    """If no server can read the data, one line says who wrote it and what to do."""
    host.start()
    assert host.run("reserve", "--gpu-ids", "1", "--duration", "4h").returncode == 0
    before = held(host)
    host.stop()
    state = folder / "state" / "redis"
    newest = {"family": "valkey", "version": "99.0.0", "program": ""}
    (state / "server.json").write_text(json.dumps(newest))
    refused = host.run("serve")
    assert refused.returncode == 1
    (line,) = [one for one in refused.stderr.splitlines() if "written by" in one]
    assert f"{state} was written by valkey 99.0.0, and " in line
    assert "install valkey-server 99.0 or later; or move" in line
    assert "cannot read it" in doctor(host)
    state.rename(folder / "away")
    host.start()
    assert held(host) == before
    assert "were restored" in host.run("doctor").stdout
