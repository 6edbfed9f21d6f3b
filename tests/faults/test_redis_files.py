"""Files of the embedded Redis are deleted while it runs: its socket, its folder, all state."""

import json
import shutil
from pathlib import Path

import anyio
import pytest
from support.daemon import Daemon, until
from support.redis import debians_redis, old_redis, valkey

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.redis_server import deleted_files
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.server_program import Server

PATIENCE = 20


def logged(host: Daemon, event: str) -> list[dict[str, str]]:
    """Return the entries of the service's log."""
    lines = [line for line in host.log.read_text().splitlines() if line.startswith("{")]
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def events(host: Daemon) -> list[str]:
    """Return the events so far, from the stream."""
    return host.run("events", "--json").stdout.splitlines()


@pytest.mark.parametrize("what", ["state/redis/redis.sock", "state/redis", "state"])
def test_what_is_deleted_is_written_again(host: Daemon, what: str) -> None:
    """Commands continue to work, and after the next start everything is there."""
    assert host.run("reserve", "--duration", "1h").returncode == 0
    before = events(host)
    assert before
    path = host.folder / what
    path.unlink() if path.is_socket() else shutil.rmtree(path)
    assert "IN USE by" in host.status()
    (entry,) = until(lambda: logged(host, "redis_files_deleted"), PATIENCE)
    assert entry["written_again"]
    until((host.folder / "state/redis/redis.sock").exists, PATIENCE)
    until((host.folder / "state/journal").exists, PATIENCE)
    until(lambda: events(host)[: len(before)] == before, PATIENCE)
    assert "IN USE by" in host.status()
    assert "holds" in host.run("serve").stderr
    assert not logged(host, "redis_lost_state")
    assert host.stop() == 0
    host.start()
    assert events(host)[: len(before)] == before
    assert "IN USE by" in host.status()


def test_what_cannot_be_written_again_is_said_and_tried_again(host: Daemon) -> None:
    """The server continues in memory, and nothing is lost once the folder can be created."""
    folder = host.folder / "state/redis"
    with host.paused():
        shutil.rmtree(folder)
        folder.touch()
    (entry,) = until(lambda: logged(host, "redis_files_deleted"), PATIENCE)
    assert entry["not_written"] == f"state_dir: {folder} cannot be used: File exists"
    assert host.run("reserve", "--duration", "1h").returncode == 0
    folder.unlink()
    until((folder / "redis.sock").exists, PATIENCE)
    until(lambda: "IN USE by" in host.status(), PATIENCE)
    assert len(logged(host, "redis_files_deleted")) == 2
    assert not logged(host, "redis_lost_state")


def test_a_server_that_dies_without_its_folder_is_started_again(host: Daemon) -> None:
    """If it restarts before the loss was noticed, live reservations come from the journal."""
    assert host.run("reserve", "--duration", "1h").returncode == 0
    redis = host.redis()
    redis.ping()
    with host.paused():
        shutil.rmtree(host.folder / "state/redis")
        redis.shutdown(nosave=True)
    until(lambda: logged(host, "redis_lost_state"), PATIENCE)
    until(lambda: "IN USE by" in host.status(), PATIENCE)


@pytest.mark.anyio
@pytest.mark.parametrize("program", [old_redis, debians_redis, valkey])
async def test_every_server_writes_its_data_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: object
) -> None:
    """Data from the time without a folder is kept by Redis 6.2, Redis 7 and Valkey."""
    path = debians_redis(monkeypatch) if program is debians_redis else program()  # type: ignore[operator]
    family, version = ("redis", "6.2.0" if program is old_redis else "7.0.15")
    server = Server(family=family, version=version, program=path)
    monkeypatch.setattr("canhazgpu.service.redis_server.embedded.find_server", lambda _: server)
    monkeypatch.setattr(deleted_files, "LOOK_AGAIN", 0.1)
    redis = EmbeddedRedis(folder)
    async with anyio.create_task_group() as tasks:
        await tasks.start(redis.run)
        store = Store(redis.url, "test")
        await store.redis.set("before", "x" * 1000)
        first = redis.pid
        shutil.rmtree(redis.folder)
        await store.redis.set("after", "y")
        with anyio.fail_after(120):
            while redis.pid in (None, first):  # noqa: ASYNC110 - another process is waited for
                await anyio.sleep(0.02)
            await store.ready(60)
        assert await store.redis.mget("before", "after") == [b"x" * 1000, b"y"]
        await store.close()
        tasks.cancel_scope.cancel()
