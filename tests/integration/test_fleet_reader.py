"""Reading the copies of all hosts, from a real server and from a real Cluster."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fleet import USAGE, fleet_server, put, read, state_of
from support.fleet_fixtures import server as server  # noqa: PLC0414 - a fixture, as is the next one
from support.fleet_fixtures import url as url  # noqa: PLC0414
from support.redis_lab import Cluster, Server

from canhazgpu.events.redis_client.endpoint import Endpoint
from canhazgpu.events.redis_client.fleet_copy import encode_state
from canhazgpu.events.redis_client.keys import FLEET_HOSTS, Keys, host_of
from canhazgpu.events.redis_client.store import Store
from canhazgpu.service.fleet.mirror_reader import (
    CHUNK,
    TROUBLE,
    USUAL_BYTES,
    FleetAway,
    MirrorReader,
    open_mirror,
)
from canhazgpu.service.fleet.views import host_view

pytestmark = pytest.mark.anyio


async def test_hosts_are_in_order(url: str) -> None:
    """However many there are, each is there once, in the order of the names."""
    names = [f"gpu{number:03}" for number in range(2 * CHUNK + 3)]
    for name in reversed(names):
        await put(url, name)
    copies = await read(url)
    assert [copy.host for copy in copies] == names
    assert {host_view(copy, "gpus")["gpus"][0]["status"] for copy in copies} == {"AVAILABLE"}


@pytest.mark.parametrize(
    "value",
    [
        b"not MessagePack",
        {"a": "hash"},
        msgspec.msgpack.encode({"copy": {"seen_ms": "yesterday"}}),
        encode_state(state_of(0, scan={b"at_ms": b"soon"})),
        encode_state(state_of(0, gpus={0: {b"usage": USAGE, b"holder": b"\xff"}})),
    ],
)
async def test_a_host_that_writes_nonsense_hides_no_other(url: str, value: Any, server: Server) -> None:
    """A copy that cannot be read is said to be so, and all others are shown."""
    for name in ("a", "z"):
        await put(url, name)
    with server.client() as admin:
        if isinstance(value, dict):
            admin.hset(Keys("bad").fleet_state, mapping=value)
        else:
            admin.set(Keys("bad").fleet_state, value)
    copies = {copy.host: copy for copy in await read(url)}
    assert list(copies) == ["a", "bad", "z"]
    assert (copies["a"].away, copies["z"].away) == ("", "")
    assert copies["bad"].away.startswith("the copy of bad cannot be read: ")
    assert host_view(copies["bad"], "gpus")["gpus"] == []
    for name in ("a", "z"):
        assert host_view(copies[name], "gpus")["gpus"][0]["status"] == "AVAILABLE"


async def test_a_copy_ages(url: str, server: Server) -> None:
    """After three intervals without a copy, a host is away, and its idle GPUs are not available."""
    with server.client() as admin:
        seconds, _ = admin.time()
        admin.set(Keys("a").fleet_state, encode_state(state_of((seconds - 181) * 1000)))
    (copy,) = await read(url)
    assert copy.away.startswith("no sign of life for 0h 3m ")
    assert host_view(copy, "gpus")["gpus"][0]["reason"].startswith("available 0h 3m ")


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


async def collect(url: str, names: list[str]) -> None:
    """Append the name of each host that is read before an error."""
    async with open_mirror(Endpoint(url=url), "reader") as mirror:
        async for copy in mirror.copies(await mirror.hosts()):
            names.append(copy.host)  # noqa: PERF401 - they count also if there is an error


@pytest.mark.slow
async def test_a_node_of_a_cluster_that_is_away_takes_only_its_hosts(tmp_path: Path) -> None:
    """The hosts of the other nodes are shown, and after them the error."""
    names = [f"gpu{number:02}" for number in range(20)]
    with ExitStack() as resources:
        cluster = Cluster(tmp_path, resources, Keys(names[0]).prefix)
        for name in names:
            await put(cluster.url, name)
        for server in cluster.servers:
            with server.client() as admin:
                admin.config_set("cluster-require-full-coverage", "no")
        (lost, *_) = [one for one in cluster.servers[:3] if one is not cluster.owner]
        with lost.client() as admin:
            gone = {host_of(key.decode()) for key in admin.scan_iter(match=FLEET_HOSTS)}
        lost.kill()
        copies: list[str] = []
        with pytest.raises(FleetAway, match=r"Connect call failed|nothing is listening"):
            await collect(cluster.url, copies)
    assert gone
    assert copies == sorted(set(names) - gone)


async def test_a_node_that_fails_during_a_large_state_takes_only_that(tmp_path: Path) -> None:
    """What was read of it before is shown, and so are the hosts of the other nodes, and then the error."""
    large = {b"1": bytes(2 * USUAL_BYTES)}
    copies: list[str] = []
    with fleet_server(tmp_path) as one, fleet_server(tmp_path) as two:
        urls = [f"redis://127.0.0.1:{server.port}" for server in (one, two)]
        for name, values in (("a", {}), ("b", {"queue": large}), ("c", {"queue": large}), ("d", {})):
            await put(urls[0], name, **values)
        await put(urls[1], "e")
        stores = [Store(url, "reader") for url in urls]
        reader = MirrorReader([store.redis for store in stores])

        async def kill_after_the_first() -> None:
            async for copy in reader.copies(await reader.hosts()):
                copies.append(copy.host)
                one.kill()

        with pytest.raises(TROUBLE):
            await kill_after_the_first()
        for store in stores:
            await store.close()
    assert copies == ["a", "d", "e"]
