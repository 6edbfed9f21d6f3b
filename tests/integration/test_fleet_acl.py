"""The rights of a host on the fleet's Redis, on real servers."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError
from support.daemon import COMMAND
from support.eventually import eventually
from support.fleet import append, entries, fleet_server, mirroring
from support.redis_lab import Cluster, Server

from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import Store

pytestmark = pytest.mark.anyio
PASSWORD = "of-one-host"  # noqa: S105 - of a server that ends with the test
OTHER = Keys("another")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fleet's Redis."""
    with fleet_server(tmp_path_factory.mktemp("fleet")) as made:
        yield made


def admit(client: Any, host: str) -> None:
    """Give a server the user that the command prints, with a password."""
    words = [*COMMAND, "redis", "acl", "--host", host]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert said[:3] == ["user", f"canhazgpu-{host}", "off"]
    client.execute_command("ACL", "SETUSER", said[1], "on", f">{PASSWORD}", *said[3:])


def as_host(server: Server, host: str) -> Any:
    """Return a client of a host's user."""
    return Redis(port=server.port, username=f"canhazgpu-{host}", password=PASSWORD, socket_timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ("XADD", OTHER.events, "1-1", "a", "b"),
        ("XTRIM", OTHER.events, "MAXLEN", "0"),
        ("HSET", OTHER.fleet, "state", "{}"),
        ("HINCRBY", OTHER.fleet, "missing:events", "1"),
        ("HSET", OTHER.reservations, "r1", "{}"),
        ("ZADD", OTHER.gpus, "0", "0"),
        ("SET", OTHER.fleet_state, "x"),
        ("SET", Keys("mine").prefix + "another", "x"),
        ("HSET", "canhazgpu:hosts", "a", "b"),
        ("GETRANGE", "other", "0", "1"),
        ("EVAL", "return 1", "0"),
        ("FLUSHALL",),
        ("ACL", "WHOAMI"),
        ("CONFIG", "GET", "*"),
    ],
)
def test_a_host_cannot_write_the_keys_of_another(server: Server, words: tuple[str, ...]) -> None:
    """Whatever a host sends, the keys of other hosts and of other programs stay as they are."""
    with server.client() as admin:
        admit(admin, "mine")
    with as_host(server, "mine") as mine, pytest.raises(NoPermissionError):
        mine.execute_command(*words)


def test_a_host_reads_all_hosts(server: Server) -> None:
    """The state of every host can be read, so that each host can show the fleet."""
    with server.client() as admin:
        admit(admin, "mine")
        admin.set(OTHER.fleet_state, "state")
    with as_host(server, "mine") as mine:
        assert mine.getrange(OTHER.fleet_state, 0, 10) == b"state"


def refusals(client: Any) -> list[str]:
    """Return what was refused, but for the version of the library, which goes on without."""
    return [one["object"] for one in client.acl_log() if not one["object"].startswith("client")]


async def test_the_worker_needs_no_other_rights(store: Store, server: Server) -> None:
    """With exactly these rights, streams and state are copied, trimmed, and nothing is refused."""
    host = store.keys.host
    with server.client() as admin:
        admit(admin, host)
        admin.acl_log_reset()
    await append(store, "events", 10)
    await store.redis.zadd(store.keys.gpus, {"0": 0})
    where = f"redis://canhazgpu-{host}:{PASSWORD}@127.0.0.1:{server.port}"
    fleet = Store(where, host)

    async def copied() -> bool:
        theirs = await _xrange(server, fleet.keys.events)
        is_equal: bool = theirs == await entries(store.redis, store.keys.events)
        return is_equal and bool(await fleet.redis.getrange(fleet.keys.fleet_state, 0, 10))

    for number in (11, 13):
        async with mirroring(store, where):
            await eventually(copied, 60)
        await append(store, "events", 2, number)
        await store.redis.xtrim(store.keys.events, minid="1800000000002-6", approximate=False)
    await fleet.close()
    with server.client() as admin:
        assert refusals(admin) == []


async def _xrange(server: Server, key: str) -> Any:
    with server.client() as admin:
        return admin.xrange(key)


@pytest.mark.slow
async def test_the_rights_suffice_in_a_cluster(store: Store, tmp_path: Path) -> None:
    """A host finds the node of its keys, and copies there, with these rights."""
    host = store.keys.host
    with ExitStack() as resources:
        cluster = Cluster(tmp_path, resources, store.keys.prefix)
        for server in cluster.servers:
            with server.client() as admin:
                admit(admin, host)
        await append(store, "events", 10)
        scheme, _, places = cluster.url.partition("://")

        async def copied() -> bool:
            try:
                theirs = await _xrange(cluster.owner, store.keys.events)
            except RedisError:
                return False
            return bool(theirs == await entries(store.redis, store.keys.events))

        async with mirroring(store, f"{scheme}://canhazgpu-{host}:{PASSWORD}@{places}"):
            await eventually(copied, 60)
        for server in cluster.servers:
            with server.client() as admin:
                assert refusals(admin) == []
