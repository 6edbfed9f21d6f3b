"""A Redis that answers but refuses writes (full, replica, disk error): the service waits for it."""

import json
import time
from collections.abc import Iterator

import pytest
from redis import Redis
from support.daemon import Daemon, gpu, until, use

from canhazgpu.events.redis_client.store import Store, StoreDown

USED = gpu(0, use(999_999, 1024, "bob", "python3"), memory_used_mb=45)


@pytest.fixture
def redis(host: Daemon) -> Iterator[Redis]:
    """The service's own Redis."""
    with host.redis() as client:
        yield client


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("setting", "before", "after"), [("min-replicas-to-write", "1", "0"), ("maxmemory", "1", "0")]
)
async def test_an_acknowledgement_that_is_refused_ends_nothing(
    store: Store, setting: str, before: str, after: str
) -> None:
    """A command that is not in a script is refused in the same way, and is one that can be tried again."""
    await store.redis.xadd(store.keys.events, {"data": "{}"})
    await store.redis.xgroup_create(store.keys.events, "mail", "0")
    await store.redis.config_set(setting, before)
    try:
        with pytest.raises(StoreDown):
            await store.ask(store.redis.xadd(store.keys.events, {"data": "{}"}))
        if setting != "maxmemory":  # What frees memory is allowed then.
            with pytest.raises(StoreDown):
                await store.ask(store.redis.xack(store.keys.events, "mail", "1-1"))
    finally:
        await store.redis.config_set(setting, after)


def _opened(host: Daemon) -> bool:
    return bool(json.loads(host.run("violations", "--open", "--json").stdout or "[]"))


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0")),
    ],
    ids=["full", "replica", "too few replicas"],
)
def test_the_service_waits_and_goes_on(
    host: Daemon, redis: Redis, breaks: tuple[str, ...], mends: tuple[str, ...]
) -> None:
    """The daemon keeps running and says why; afterwards nothing is missing or duplicated."""
    redis.execute_command(*breaks)  # type: ignore[no-untyped-call]
    host.place(USED)
    until(lambda: b"store_down" in host.log.read_bytes(), 30)
    time.sleep(2)
    assert host.log.read_bytes().count(b"store_down") <= 3, "every attempt fills the journal with a line"
    assert host.process is not None
    assert host.process.poll() is None
    redis.execute_command(*mends)  # type: ignore[no-untyped-call]
    until(lambda: _opened(host), 10)
    until(host.facts, 10)
    until(lambda: json.loads(host.run("deliveries", "--json").stdout), 10)
    assert [fact["type"] for fact in host.facts()] == ["canhazgpu.violation.opened"]
    host.place(gpu(0, memory_used_mb=45))
    until(lambda: len(host.facts()) == 2, 15)
    assert "Traceback" not in host.log.read_text()
