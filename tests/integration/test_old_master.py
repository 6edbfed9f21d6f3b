"""A former Redis master that continues after a failover, while a connection to it is still open."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.redis_lab import DURABLE, Server
from support.reservations import ALICE, BOB, Lab

from canhazgpu.events.redis_client.store import Store, StoreDown
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.reservations.allocator import AllocationRequest
from canhazgpu.service.reservations.releases import ReleaseOrder
from canhazgpu.service.storage.journal import Journal

pytestmark = pytest.mark.anyio
BOBS = AllocationRequest(kind="manual", user=f"u{BOB}", uid=BOB, gpus=(1,), duration_ms=3600_000)


@pytest.fixture
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers with a Unix socket each; `folder/r` leads to the first."""
    both = [Server(folder, *DURABLE, "--unixsocket", str(folder / name)) for name in "ab"]
    (folder / "r").symlink_to("a")
    yield both[0], both[1]
    for server in both:
        server.close()


@pytest.fixture
async def lab(folder: Path, servers: tuple[Server, Server]) -> AsyncIterator[Lab]:
    """A host with a journal, on the server that is the master."""
    del servers
    store = Store(f"unix://{folder}/r", "h")
    lab, reconciler = Lab(store), Reconciler(store, Journal(folder / "journal"))
    await reconciler.start()
    await reconciler.sync()
    lab.allocator.begin = reconciler.begin
    yield lab
    await store.close()


def take_over(folder: Path, old: Server, new: Server) -> None:
    """Let the second server replicate the first, then make it the master."""
    with new.client() as client, old.client() as source:
        client.replicaof("127.0.0.1", old.port)
        until(lambda: client.info("replication").get("master_link_status") == "up", 20)
        until(lambda: source.wait(1, 1000) == 1, 20)
        client.replicaof("NO", "ONE")
    (folder / "new").symlink_to("b")
    os.rename(folder / "new", folder / "r")  # noqa: PTH104 - a symlink is replaced, not what it leads to


async def port(store: Store) -> int:
    """Return the server that answers the next command."""
    facts: Any = await store.redis.info("server")
    return int(facts["tcp_port"])


async def moved(folder: Path, lab: Lab, servers: tuple[Server, Server]) -> str:
    """Let Alice's hold on GPU 0 become one on GPU 1, which only the new master hears of; return its id.

    The next command goes to the old one, for which GPU 1 is free.
    """
    old, new = servers
    await lab.reserve(gpus=(0,))
    pool: Any = lab.store.redis.connection_pool
    open_still = await pool.get_connection()
    take_over(folder, old, new)
    await pool.disconnect(inuse_connections=False)
    order = ReleaseOrder(uid=ALICE, by="alice", reason="released")
    assert (await lab.allocator.release(order, "over"))[0] == "released"
    mine = await lab.reserve(gpus=(1,))
    assert await port(lab.store) == new.port
    await pool.release(open_still)
    assert await port(lab.store) == old.port
    return mine


def created(server: Server) -> list[bytes]:
    """Return the grants to Bob in a server's events."""
    with server.client() as client:
        rows: Any = client.xrange("canhazgpu:{h}:events")
    return [
        fields[b"data"]
        for _, fields in rows
        if fields[b"type"].endswith(b"reservation.created") and b"u1002" in fields[b"data"]
    ]


async def test_it_hands_out_nothing_that_the_new_master_has_handed_out(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """If both servers have the same number of events but different ones, the script refuses."""
    mine = await moved(folder, lab, servers)
    assert (await lab.allocator.reserve(BOBS, "bob")).code == "refused"
    assert [created(server) for server in servers] == [[], []]
    assert [one.id for one in await lab.allocator.reservations()] == [mine]


async def test_it_grants_nothing_without_a_way_to_compare(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """Nothing is written to the former master, and no grant is reported."""
    await moved(folder, lab, servers)
    lab.store.recover = None
    before = _sequence(servers[0])
    with pytest.raises(StoreDown, match="BEHIND"):
        await lab.allocator.reserve(BOBS, "bob")
    assert _sequence(servers[0]) == before
    assert created(servers[0]) == []


async def test_what_it_granted_is_known_to_the_new_master(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """A grant on the former master is transferred to the new one before that grants."""
    mine = await moved(folder, lab, servers)
    free = AllocationRequest(kind="manual", user=f"u{BOB}", uid=BOB, gpus=(0,), duration_ms=3600_000)
    await lab.scan()
    granted = await lab.allocator.reserve(free, "bob")
    assert granted.code == "granted"
    await lab.store.redis.connection_pool.disconnect()
    assert await port(lab.store) == servers[1].port
    carol = AllocationRequest(kind="manual", user="u1003", uid=1003, gpus=(0,), duration_ms=3600_000)
    await lab.scan()
    assert (await lab.allocator.reserve(carol, "carol")).code == "refused"
    assert {one.id for one in await lab.allocator.reservations()} == {mine, granted.id}


def _sequence(server: Server) -> int:
    with server.client() as client:
        return int(client.get("canhazgpu:{h}:sequence"))
