"""Reading the copies of all hosts, from a real server and from a real Cluster."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fleet import fleet_server
from support.redis_lab import Cluster, Server

from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.fleet_copy import STATE, CopyState
from canhazgpu.events.redis_client.keys import Keys
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.fleet.mirror_reader import CHUNK, FleetAway, HostCopy, open_mirror
from canhazgpu.service.fleet.views import host_view

pytestmark = pytest.mark.anyio
USAGE = '{"index":0,"uuid":"GPU-0","name":"H100","state":"ok"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fleet's Redis."""
    with fleet_server(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    """Its address; it is empty before and after."""
    with server.client() as admin:
        admin.flushall()
        yield f"redis://127.0.0.1:{server.port}"
        admin.flushall()


async def put(url: str, host: str) -> None:
    """Put a host with one idle GPU into the mirror."""
    store = Store(url, host)
    keys, now_ms = store.keys, await store.now_ms()
    state = CopyState(seen_ms=now_ms, at_ms=now_ms, interval_ms=60_000, scan_interval_ms=1000)
    await store.redis.zadd(keys.gpus, {"0": 0})
    await store.redis.hset(keys.gpu(0), "usage", USAGE)
    await store.redis.hset(keys.scan, "at_ms", str(now_ms))
    await store.redis.hset(keys.fleet, STATE, msgspec.json.encode(state).decode())
    await store.close()


async def read(url: str) -> list[HostCopy]:
    """Return all copies."""
    async with open_mirror(Endpoint(url=url), "reader") as mirror:
        return [copy async for copy in mirror.copies(await mirror.hosts())]


async def test_hosts_are_in_order(url: str) -> None:
    """However many there are, each is there once, in the order of the names."""
    names = [f"gpu{number:03}" for number in range(2 * CHUNK + 3)]
    for name in reversed(names):
        await put(url, name)
    copies = await read(url)
    assert [copy.host for copy in copies] == names
    assert {host_view(copy, "gpus")["gpus"][0]["status"] for copy in copies} == {"AVAILABLE"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (Keys("bad").scan, "not a hash"),
        (Keys("bad").gpus, "not a list"),
        (Keys("bad").fleet, {STATE: '{"seen_ms": "yesterday"}'}),
        (Keys("bad").scan, {"at_ms": "soon"}),
        (Keys("bad").gpu(0), {"usage": USAGE, "holder": b"\xff"}),
    ],
)
async def test_a_host_that_writes_nonsense_hides_no_other(
    url: str, key: str, value: Any, server: Server
) -> None:
    """A copy that cannot be read is said to be so, and all others are shown."""
    for name in ("a", "bad", "z"):
        await put(url, name)
    with server.client() as admin:
        admin.delete(key)
        if isinstance(value, dict):
            admin.hset(key, mapping=value)
        else:
            admin.set(key, value)
    copies = {copy.host: copy for copy in await read(url)}
    assert list(copies) == ["a", "bad", "z"]
    assert (copies["a"].away, copies["z"].away) == ("", "")
    shown = host_view(copies["bad"], "gpus")
    assert shown["gpus"] == [] or shown["gpus"][0]["status"] == "UNKNOWN"
    for name in ("a", "z"):
        assert host_view(copies[name], "gpus")["gpus"][0]["status"] == "AVAILABLE"


async def test_a_copy_ages(url: str, server: Server) -> None:
    """After three intervals without a copy, a host is away, and its idle GPUs are not available."""
    await put(url, "a")
    with server.client() as admin:
        state = msgspec.json.decode(admin.hget(Keys("a").fleet, STATE), type=CopyState)
        late = msgspec.structs.replace(state, seen_ms=state.seen_ms - 180_001)
        admin.hset(Keys("a").fleet, STATE, msgspec.json.encode(late))
    (copy,) = await read(url)
    assert re.fullmatch(r"no sign of life for 0h 3m \d+s", copy.away)
    reason = host_view(copy, "gpus")["gpus"][0]["reason"]
    assert re.match(r"available 0h 3m \d+s ago; no sign of life", reason)


async def test_a_mirror_that_is_none() -> None:
    """If nothing listens, the error says so."""
    with pytest.raises(FleetAway, match=r"Connect call failed|nothing is listening"):
        await read("redis://127.0.0.1:1")


@pytest.mark.slow
async def test_hosts_on_all_nodes_of_a_cluster(tmp_path: Path) -> None:
    """In a Cluster, hosts are found on every node, and each is read from its own."""
    names = [f"gpu{number:02}" for number in range(20)]
    with ExitStack() as resources:
        cluster = Cluster(tmp_path, resources, Keys(names[0]).prefix)
        for name in names:
            await put(cluster.url, name)
        copies = await read(cluster.url)
    assert [copy.host for copy in copies] == names
    assert {host_view(copy, "gpus")["gpus"][0]["status"] for copy in copies} == {"AVAILABLE"}
