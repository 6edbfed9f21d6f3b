"""The users of config/redis.acl have exactly the rights that they need, on a real Redis with that file."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from support.acl import (
    PASSWORD,
    READER,
    ROOT,
    SERVICE,
    WITHOUT_AUTH,
    WORKER,
    AclRedis,
    every_command,
    granted,
    serving,
    used,
)
from support.daemon import COMMAND, PATIENCE, Daemon, gpu, use
from support.eventually import until
from support.foreign_consumer import GROUP, append, left_nothing, running, until_length

from canhazgpu.events import Consumer
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import Store

KEYS = Keys("gpu-host-1")  # As in the document.
DOCUMENT = (ROOT / "docs" / "events.md").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclRedis]:
    """A Redis with the shipped users."""
    with serving(tmp_path_factory.mktemp("acl")) as made:
        yield made


@pytest.mark.parametrize("user", [SERVICE, WORKER])
def test_the_file_grants_what_the_code_uses_and_no_more(server: AclRedis, user: str) -> None:
    """The commands of the scripts and the code are exactly those in the service's line."""
    assert granted(user) == used(user, every_command(server.admin))


def test_the_file_grants_readers_what_the_document_tells_them() -> None:
    """The commands in docs/events.md are exactly those in the readers' line."""
    named = set(re.findall(r"`(X[A-Z]+(?: [A-Z]+)?)`", DOCUMENT))
    named |= {" ".join(words[:2] if words[0] in ("XGROUP", "XINFO") else words[:1]) for words in documented()}
    assert granted(READER) == {"ping", "select"} | {name.lower().replace(" ", "|") for name in named}


def test_the_library_for_consumers_needs_no_more_than_readers_have(server: AclRedis) -> None:
    """Its commands are in the readers' line."""
    needed = used(READER, every_command(server.admin))
    assert {"xclaim", "xpending", "xinfo|groups"} <= needed <= granted(READER)


@pytest.mark.anyio
async def test_a_consumer_works_as_a_reader(server: AclRedis, caplog: pytest.LogCaptureFixture) -> None:
    """A reader's consumer handles events, takes over what a member left, and is refused nothing."""
    store = Store(f"unix://admin:{PASSWORD}@{server.socket}", "elsewhere")
    ids = await append(store, 1, 3)
    await store.redis.xgroup_create(store.keys.events, GROUP, id="0")
    await store.redis.xreadgroup(GROUP, "gone", {store.keys.events: ">"}, count=2)
    server.admin.acl_log_reset()
    found: list[str] = []
    consumer = Consumer(server.url(READER), host="elsewhere", group=GROUP, name="one", claim_after=0.3)
    async with running(consumer, lambda event: found.append(event.stream_id)):
        await until_length(found, 3)
        await left_nothing(store)
    await store.close()
    assert sorted(found) == ids
    assert {one["object"] for one in server.admin.acl_log()} <= {"client", "client|setinfo"}
    assert "XCLAIM" not in caplog.text


def documented() -> list[list[str]]:
    """Return the calls of redis-cli in the document, as words."""
    calls = re.findall(r"^    redis-cli -s \S+ \\\n +(.+)$", DOCUMENT, re.MULTILINE)
    assert len(calls) >= 5
    return [shlex.split(call) for call in calls]


def refused(server: AclRedis, user: str, words: list[str]) -> bool:
    """Return whether a user may not call a command at all, on a connection of its own."""
    client = server.client(user)
    try:
        client.execute_command(*words)
    except (RedisError, OSError) as error:
        return "permissions to run" in str(error) or "command not allowed" in str(error)
    finally:
        client.close()
    return False


@pytest.mark.parametrize("user", [SERVICE, WORKER, READER])
def test_everything_else_is_refused(server: AclRedis, user: str) -> None:
    """Of all commands of the server, exactly those in the file are allowed."""
    commands = every_command(server.admin)
    assert len(commands) > 200
    allowed = {name for name, words in commands.items() if not refused(server, user, words)}
    assert allowed - WITHOUT_AUTH == granted(user)


def test_a_reader_does_what_the_document_says(server: AclRedis) -> None:
    """Every call in docs/events.md works: a group is created, read, acknowledged and destroyed."""
    server.admin.xadd(KEYS.violations, {"data": "{}"}, id="1795600000000-17")
    reader = server.client(READER)
    replies = [reader.execute_command(*words) for words in documented()]
    assert b"1795600000000-17" in repr(replies[1]).encode()
    acknowledged = [words[0] for words in documented()].index("XACK")
    assert replies[acknowledged] == 1
    assert replies[-1] == 1
    for ask in (reader.xinfo_stream, reader.xinfo_groups, reader.xlen, reader.xrange, reader.xrevrange):
        for key in KEYS.streams.values():
            server.admin.xadd(key, {"data": "{}"})
            ask(key)
    reader.close()


def test_a_reader_reads_no_other_key_and_writes_none(server: AclRedis) -> None:
    """Readers can read the five public streams only, and append or remove nothing."""
    reader = server.client(READER)
    others = [value for name, value in vars(KEYS).items() if name not in (*KEYS.streams, "host", "prefix")]
    assert len(others) > 10
    for key in (*others, KEYS.gpu(0), KEYS.retries("email"), "canhazgpu:hosts", "other"):
        with pytest.raises(NoPermissionError):
            reader.xrange(key)
    for words in (
        ("XADD", KEYS.events, "*", "a", "b"),
        ("XTRIM", KEYS.events, "MAXLEN", 0),
        ("DEL", KEYS.events),
    ):
        with pytest.raises(NoPermissionError):
            reader.execute_command(*words)
    reader.close()


@pytest.mark.parametrize("user", [SERVICE, WORKER])
def test_no_user_reaches_keys_of_other_programs(server: AclRedis, user: str) -> None:
    """In a shared Redis, keys of others cannot be reached, not even by a script."""
    client = server.client(user)
    with pytest.raises(NoPermissionError):
        client.get("other")
    with pytest.raises(ResponseError, match=r"(?i)permission|no access"):
        client.eval("return redis.call('GET', KEYS[1])", 1, "other")
    client.close()


def test_service_and_workers_do_their_work_as_these_users(folder: Path, server: AclRedis) -> None:
    """Service and worker run for a day as their own users without a refusal."""
    daemon = Daemon(folder, f'[redis]\nurl = "{server.url(SERVICE)}"\n')
    worker = daemon.environment | {"CANHAZGPU_REDIS_URL": server.url(WORKER)}
    daemon.place(gpu(0, memory_used_mb=45), gpu(1, use(4242, 8000, "bob", "python")))
    server.admin.acl_log_reset()
    daemon.start("--no-workers")
    workers = subprocess.Popen([*COMMAND, "worker"], env=worker, stderr=subprocess.DEVNULL)
    try:
        for words in (
            ("reserve", "--gpus", "1", "--duration", "1h"),
            ("extend",),
            ("release",),
            ("status",),
            ("violations",),
            ("events", "--json"),
            ("deliveries",),
            ("notify", "test", "wall"),
        ):
            answer: Any = daemon.run(*words)
            assert "NOPERM" not in answer.stdout + answer.stderr, words
        until(lambda: any(one["type"].endswith("opened") for one in daemon.facts()), 20)
        assert "streams" in daemon.run("doctor").stdout
        assert workers.poll() is None
    finally:
        workers.terminate()
        workers.wait(PATIENCE)
        daemon.stop()
    denied = {one["object"] for one in server.admin.acl_log()}
    assert denied <= {"client", "client|setinfo"}  # The library says its version, and goes on without.
