"""A former Redis master that continues after a failover, while a connection to it is still open."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.eventually import until
from support.redis_lab import DURABLE, Server
from support.reservations import ALICE, BOB, Lab

from canhazgpu.events.redis_client.server_pool import ServerChanged
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
async def lab(
    folder: Path, servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lab]:
    """A host with a journal, on the server that is the master."""
    del servers
    monkeypatch.setattr("canhazgpu.events.redis_client.store.ANSWER_TIMEOUT", 60.0)
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
        until(lambda: client.info("replication").get("master_link_status") == "up", 60)
        until(lambda: source.wait(1, 1000) == 1, 60)
        client.replicaof("NO", "ONE")
    lead_to(folder, "b")


def lead_to(folder: Path, name: str) -> None:
    """Let new connections lead to this server."""
    (folder / "new").symlink_to(name)
    os.rename(folder / "new", folder / "r")  # noqa: PTH104 - a symlink is replaced, not what it leads to


async def port(store: Store) -> int:
    """Return the server that answers the next command."""
    facts: Any = await store.redis.info("server")
    return int(facts["tcp_port"])


async def moved(folder: Path, lab: Lab, servers: tuple[Server, Server]) -> str:
    """Let Alice's hold on GPU 0 become one on GPU 1, which only the new master hears of; return its id.

    A connection to the old one, for which GPU 1 is free, is still open and is the next to be used.
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
    assert open_still.is_connected
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


async def test_open_connections_to_it_are_not_used(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """Once a connection leads to the new master, all do: nothing is granted on the old one any more."""
    mine = await moved(folder, lab, servers)
    assert (await lab.allocator.reserve(BOBS, "bob")).code == "refused"
    assert await port(lab.store) == servers[1].port
    assert [created(server) for server in servers] == [[], []]
    assert [one.id for one in await lab.allocator.reservations()] == [mine]


async def test_what_it_grants_after_the_new_one_has_answered_is_not_acknowledged(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """A grant that was under way on the old master is asked for again on the new one."""
    old, new = servers
    await lab.reserve(gpus=(0,))
    codes = []

    async def ask_for_bob() -> None:
        codes.append((await lab.allocator.reserve(BOBS, "bob")).code)

    take_over(folder, old, new)
    os.kill(old.process.pid, signal.SIGSTOP)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_for_bob)
        await anyio.wait_all_tasks_blocked()
        order = ReleaseOrder(uid=ALICE, by="alice", reason="released")
        assert (await lab.allocator.release(order, "over"))[0] == "released"
        mine = await lab.reserve(gpus=(1,))  # Both have two reservations, but not the same two.
        assert await port(lab.store) == new.port
        os.kill(old.process.pid, signal.SIGCONT)
    assert codes == ["refused"]
    assert len(created(old)) == 1
    assert mine in [one.id for one in await lab.allocator.reservations()]
    assert created(new) == []


async def test_a_command_for_one_server_is_not_sent_to_another(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """A script with a promise about the old master's data is not sent to the new one."""
    await lab.reserve(gpus=(0,))
    take_over(folder, *servers)
    await lab.store.redis.connection_pool.disconnect()
    with lab.store.only_on(lab.store.servers), pytest.raises(ServerChanged):
        await port(lab.store)
    assert await port(lab.store) == servers[1].port


async def test_it_grants_nothing_without_a_way_to_compare(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """If the former master has fewer events, nothing is written to it, and no grant is reported."""
    await moved(folder, lab, servers)
    lab.store.recover = None
    assert await port(lab.store) == servers[0].port
    before = _sequence(servers[0])
    with pytest.raises(StoreDown, match="BEHIND"):
        await lab.allocator.reserve(BOBS, "bob")
    assert _sequence(servers[0]) == before
    assert created(servers[0]) == []


async def test_what_it_granted_is_known_to_the_new_master(
    folder: Path, lab: Lab, servers: tuple[Server, Server]
) -> None:
    """A grant on the former master, which was back for a while, is transferred to the new one."""
    mine = await moved(folder, lab, servers)
    lead_to(folder, "a")
    await lab.store.redis.connection_pool.disconnect()
    free = AllocationRequest(kind="manual", user=f"u{BOB}", uid=BOB, gpus=(0,), duration_ms=3600_000)
    await lab.scan()
    granted = await lab.allocator.reserve(free, "bob")
    assert granted.code == "granted"
    assert await port(lab.store) == servers[0].port
    lead_to(folder, "b")
    await lab.store.redis.connection_pool.disconnect()
    assert await port(lab.store) == servers[1].port
    carol = AllocationRequest(kind="manual", user="u1003", uid=1003, gpus=(0,), duration_ms=3600_000)
    await lab.scan()
    assert (await lab.allocator.reserve(carol, "carol")).code == "refused"
    assert {one.id for one in await lab.allocator.reservations()} == {mine, granted.id}


def _sequence(server: Server) -> int:
    with server.client() as client:
        return int(client.get("canhazgpu:{h}:sequence"))
