"""A truncated or damaged append-only file of the embedded server: every loss is reported."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import anyio
import pytest
from redis.exceptions import RedisError
from structlog.testing import capture_logs
from support.redis import debians_redis, old_redis, valkey

from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.redis_server import server_program
from canhazgpu.service.redis_server.embedded import EmbeddedRedis
from canhazgpu.service.redis_server.server_program import EmbeddedFailed
from canhazgpu.service.storage.journal import Journal, State

pytestmark = [pytest.mark.anyio, pytest.mark.slow(1)]
PROGRAMS = ("redis 6.2", "debian", "valkey")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use each server in turn."""
    found = {"redis 6.2": old_redis, "debian": lambda: debians_redis(monkeypatch), "valkey": valkey}
    path = found[request.param]()
    monkeypatch.setattr(server_program, "_programs", lambda _: iter([path]))
    return path


@pytest.fixture
async def file(folder: Path, program: str) -> Path:
    """Return the append-only file of a stopped server, with 200 keys, k0 first."""
    del program
    async with anyio.create_task_group() as tasks:
        redis = EmbeddedRedis(folder, Journal(folder / "journal").restorable)
        store = Store(await tasks.start(redis.run), "test")
        async with store.redis.pipeline(transaction=False) as pipeline:
            for number in range(200):
                pipeline.set(f"k{number}", f"value{number}")
            await pipeline.execute()
        await store.close()
        tasks.cancel_scope.cancel()
    found = [path for path in redis.folder.rglob("*.aof") if path.stat().st_size > 1000]
    return found[0]


def content(file: Path) -> bytes:
    """Return the keys in a file."""
    return file.read_bytes()


def break_middle(file: Path) -> bytes:
    """Overwrite a few bytes in the middle; return the content of the file."""
    whole = file.read_bytes()
    middle = whole.index(b"*3\r\n", len(whole) // 2)
    file.write_bytes(whole[:middle] + b"XXXXXXX" + whole[middle + 7 :])
    return file.read_bytes()


async def keys(folder: Path) -> tuple[int, str | None]:
    """Start the server; return the number of keys, and the reported damage."""
    async with anyio.create_task_group() as tasks:
        redis = EmbeddedRedis(folder, Journal(folder / "journal").restorable)
        store = Store(await tasks.start(redis.run), "test")
        size = await store.redis.dbsize()
        await store.close()
        tasks.cancel_scope.cancel()
    return size, redis.damage


async def test_a_cut_file_is_told(folder: Path, file: Path) -> None:
    """After a truncated end, the server starts with the complete part and reports the offset of the loss."""
    os.truncate(file, len(content(file)) // 2)
    with capture_logs() as logs:
        size, damage = await keys(folder)
    assert 50 < size < 150
    assert damage is not None
    assert damage.startswith("its append-only file was truncated: everything after byte ")
    assert [line["log_level"] for line in logs if line["event"] == "redis_file_cut"] == ["error"]
    assert await keys(folder) == (size, None)


async def test_a_broken_file_is_repaired_beside_a_journal(folder: Path, file: Path) -> None:
    """The part before the damage and a copy of the file are kept, and both are reported."""
    broken = break_middle(file)
    (folder / "journal").write_bytes(b"")
    with capture_logs() as logs:
        size, damage = await keys(folder)
    assert 50 < size < 150
    (aside,) = (folder / "redis").glob("broken-*.aof")
    assert aside.read_bytes() == broken
    assert (
        damage == f"its append-only file was damaged, and was truncated before the damage; a copy is {aside}"
    )
    (said,) = [line for line in logs if line["event"] == "redis_file_repaired"]
    assert "Bad file format reading the append only file" in said["last_words"]
    assert await keys(folder) == (size, None)


async def test_without_a_journal_a_broken_file_is_left_alone(folder: Path, file: Path) -> None:
    """Without a journal, the error has the server's words and the remedy, and the file is unchanged."""
    broken = break_middle(file)
    with pytest.raises(EmbeddedFailed) as failed, anyio.fail_after(120):
        await EmbeddedRedis(folder, Journal(folder / "journal").restorable).run()
    message = str(failed.value)
    assert "\n" not in message
    assert "Bad file format reading the append only file" in message
    assert f"--fix {file}" in message
    assert f"or move {folder / 'redis'} away" in message
    assert content(file) == broken
    assert not list((folder / "redis").glob("broken-*"))


async def test_a_copy_that_cannot_be_made_is_no_repair(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there is no space for a copy, nothing is truncated."""
    broken = break_middle(file)
    (folder / "journal").write_bytes(b"")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(EmbeddedFailed, match="No space left on device"), anyio.fail_after(120):
        await EmbeddedRedis(folder, Journal(folder / "journal").restorable).run()
    assert content(file) == broken


def misspell(file: Path) -> None:
    """Flip one bit of the name of a command."""
    whole = file.read_bytes()
    middle = whole.index(b"SET\r\n", len(whole) // 2)
    file.write_bytes(whole[:middle] + b"SeX" + whole[middle + 3 :])


def empty_manifest(file: Path) -> None:
    """Empty the manifest."""
    (file.parent / "appendonly.aof.manifest").write_bytes(b"")


def garble_manifest(file: Path) -> None:
    """Overwrite the manifest with other text."""
    (file.parent / "appendonly.aof.manifest").write_bytes(b"\xff\xfe garbage\n")


def cut_base(file: Path) -> None:
    """Truncate the snapshot on which the commands are based."""
    base = next(file.parent.glob("*.base.rdb"))
    os.truncate(base, base.stat().st_size // 2)


def damage_base(file: Path) -> None:
    """Overwrite the start of the snapshot."""
    base = next(file.parent.glob("*.base.rdb"))
    base.write_bytes(b"XXXXX" + base.read_bytes()[5:])


def delete_base(file: Path) -> None:
    """Delete the snapshot."""
    next(file.parent.glob("*.base.rdb")).unlink()


def delete_increment(file: Path) -> None:
    """Delete the commands."""
    file.unlink()


def replace_folder(file: Path) -> None:
    """Put a file where the folder was."""
    shutil.rmtree(file.parent)
    file.parent.write_bytes(b"")


DAMAGES = [
    misspell,
    empty_manifest,
    garble_manifest,
    cut_base,
    damage_base,
    delete_base,
    delete_increment,
    replace_folder,
]


# Redis 6.2 has one file; from 7.0 on there are a snapshot, commands, and a manifest that names both.
CASES = [("redis 6.2", misspell), *product(PROGRAMS[1:], DAMAGES)]


@pytest.mark.parametrize(("program", "damage"), CASES, indirect=["program"])
async def test_data_beyond_repair_are_set_aside(
    folder: Path, file: Path, damage: Callable[[Path], None]
) -> None:
    """With a journal, the server starts, the damaged data is kept, and the log and `damage` report it."""
    damage(file)
    Journal(folder / "journal").write(State(dataset="d"))
    with capture_logs() as logs, anyio.fail_after(120):
        size, told = await keys(folder)
    assert told is not None
    said = [line for line in logs if line["event"] == "redis_data_set_aside"]
    assert [line["log_level"] for line in said] == ["error"]
    (aside,) = [path for path in (folder / "redis").glob("broken-*") if path.is_dir()]
    assert told.endswith(f"the damaged data are in {aside}")
    assert list(aside.iterdir())
    assert await keys(folder) == (size, None)


@pytest.mark.parametrize(
    ("program", "damage", "journal"),
    [*((*case, "none") for case in CASES), *((program, misspell, "garbage") for program in PROGRAMS)],
    indirect=["program"],
)
async def test_without_a_readable_journal_no_data_are_moved(
    folder: Path, file: Path, damage: Callable[[Path], None], journal: str
) -> None:
    """Without a readable journal, the start is refused with one line, and nothing is moved."""
    damage(file)
    if journal == "garbage":
        (folder / "journal").write_bytes(b"garbage\n")
    with pytest.raises(EmbeddedFailed) as failed, anyio.fail_after(120):
        await EmbeddedRedis(folder, Journal(folder / "journal").restorable).run()
    message = str(failed.value)
    assert "\n" not in message
    assert f"or move {folder / 'redis'} away" in message
    assert not list((folder / "redis").glob("broken-*"))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of one megabyte; without root the test is skipped."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("no file system can be mounted")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_is_in_the_log(folder: Path, program: str) -> None:
    """After a full disk, the last words of the server are complete."""
    del program
    with small_disk(folder / "state"), capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            redis = EmbeddedRedis(folder / "state")
            store = Store(await tasks.start(redis.run), "test")
            first = redis.pid
            with suppress(RedisError):
                for number in range(100):
                    await store.redis.set(f"k{number}", "x" * 20_000)
            with anyio.fail_after(120):
                while redis.pid == first:  # noqa: ASYNC110 - it has no event for this
                    await anyio.sleep(0.02)
            await store.close()
            tasks.cancel_scope.cancel()
    died = next(line for line in logs if line["event"] == "redis_died")
    assert "rite" in died["last_words"]
    assert "Exiting" in died["last_words"]
    assert f"(no space left on {folder / 'state' / 'redis'})" in died["last_words"]
