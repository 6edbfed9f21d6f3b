"""The claim to a host's name on a real Redis: nothing is written before the claim is certain."""

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.eventually import until
from support.ports import free_port
from support.redis import redis_binary

from canhazgpu.events.linux.processes import Process, start_time_of
from canhazgpu.events.redis_client.keys import MACHINES, Keys
from canhazgpu.events.redis_client.scripts import Script
from canhazgpu.events.redis_client.store import UNREACHABLE, Store, StoreDown
from canhazgpu.service.storage.machine_id import Machine
from canhazgpu.service.storage.state_owner import NameTaken, StateOwner

pytestmark = pytest.mark.anyio
HEARTBEAT = Script("canhazgpu.service.reservations", "heartbeat")


def some_machine(ident: str = "") -> Machine:
    """Return a machine of its own."""
    return Machine(ident or secrets.token_hex(16), secrets.token_hex(16), Process(1, 1))


def identity(store: Store, machine: Machine) -> StateOwner:
    """Return the owner of the store's host name."""
    return StateOwner(store, machine, 0.01, alone=False)


def start(path: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start a Redis; return when it answers."""
    command = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--dir", str(path.parent)]
    server = subprocess.Popen([*command, "--save", "", *words], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with Redis(unix_socket_path=str(path)) as client, contextlib.suppress(RedisError):
            return bool(client.ping())
        return False

    until(answers)
    return server


async def owner(store: Store) -> str:
    """Return the owner of the state."""
    found: Any = await store.redis.hget(store.keys.scan, "owner")
    return str((found or b"").decode())


async def until_claimed(one: StateOwner) -> None:
    """Wait for it, within bounds."""
    with anyio.fail_after(60):
        await one.claimed.wait()


async def test_a_redis_that_is_away_is_claimed_when_it_is_there(folder: Path) -> None:
    """Until the claim is certain, no script runs."""
    store = Store(f"unix://{folder}/r", "h")
    one = identity(store, some_machine())
    server = None
    try:
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(60):
                await tasks.start(one.run)
            assert not one.claimed.is_set()
            server = start(folder / "r")
            with pytest.raises(StoreDown, match="not certain yet"):
                await store.run(HEARTBEAT, [store.keys.reservations], ["x"])
            await until_claimed(one)
            assert await store.run(HEARTBEAT, [store.keys.reservations], ["x"]) == 0
            tasks.cancel_scope.cancel()
    finally:
        await store.close()
        if server:
            server.kill()
            server.wait()


async def test_a_name_that_is_taken_is_seen_when_redis_is_back(folder: Path) -> None:
    """If another service owns the name, one that started without Redis ends and writes nothing."""
    store, other = Store(f"unix://{folder}/r", "h"), some_machine()
    server = start(folder / "r")
    await store.ready(10)
    await store.redis.hset(store.keys.scan, "owner", other.text)
    await store.redis.save()
    server.kill()
    server.wait()
    (folder / "r").unlink()

    async def live(theirs: Store) -> None:
        for sign in range(1, 10**6):
            with contextlib.suppress(*UNREACHABLE):
                await theirs.redis.hset(theirs.keys.scan, "alive_ms", sign)
            await anyio.sleep(0.05)

    async def work() -> None:
        nonlocal server
        async with anyio.create_task_group() as tasks:
            await tasks.start(identity(store, some_machine()).run)
            server = start(folder / "r")
            tasks.start_soon(live, store)

    try:
        with pytest.raises(ExceptionGroup) as ended:
            await work()
        assert ended.group_contains(NameTaken, match="is alive under the name h")
        assert await owner(store) == other.text
    finally:
        await store.close()
        server.kill()
        server.wait()


async def test_a_crowd_that_claims_at_once_has_one_winner(redis_url: str) -> None:
    """Of twenty machines with one name, nineteen end with the reason."""
    name = f"crowd-{secrets.token_hex(4)}"
    stores = [Store(redis_url, name) for _ in range(20)]
    claims = [identity(store, some_machine()) for store in stores]
    refused: list[str] = []
    first = anyio.Event()

    async def watch(one: StateOwner) -> None:
        await one.claimed.wait()
        first.set()

    async def claim(one: StateOwner) -> None:
        try:
            await one.run()
        except NameTaken as taken:
            refused.append(str(taken))

    async with anyio.create_task_group() as tasks:
        for one in claims:
            tasks.start_soon(claim, one)
            tasks.start_soon(watch, one)
        with anyio.fail_after(60):
            await first.wait()
            (winner,) = [one for one in claims if one.claimed.is_set()]
            store = stores[claims.index(winner)]
            while len(refused) < 19:  # As its scans do it.
                await store.redis.hset(store.keys.scan, "at_ms", await store.now_ms())
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert await owner(stores[0]) == winner.machine.text
    for store in stores:
        await store.close()


async def test_a_living_service_of_this_boot_has_to_be_stopped(store: Store) -> None:
    """The error does not suggest another name, because then both could allocate the same GPUs."""
    lives = Process(os.getppid(), start_time_of(os.getppid()) or 0)
    first = Machine(secrets.token_hex(16), secrets.token_hex(16), lives)
    await store.redis.hset(store.keys.scan, mapping={"owner": first.text, "at_ms": 1})
    second = Machine(first.id, first.boot, Process(os.getpid(), 1))
    with pytest.raises(NameTaken) as taken, anyio.fail_after(60):
        await identity(store, second).run()
    assert str(taken.value).endswith("in this Redis: stop it")
    assert f"(PID {lives.pid})" in str(taken.value)


async def test_a_rename_takes_every_key_along(store: Store) -> None:
    """Renaming moves thousands of stored operations with their expiry."""
    old = Keys(f"old-{secrets.token_hex(4)}")
    before, after = some_machine("aa" * 16), some_machine("aa" * 16)
    pipe = store.redis.pipeline()
    pipe.hset(old.scan, "owner", before.text)
    pipe.set(old.sequence, 7)
    for number in range(1200):
        pipe.set(old.operation(1000, str(number)), "x", ex=1000)
    await pipe.execute()
    await store.redis.hset(MACHINES, before.id, old.host)
    one = identity(store, after)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        await until_claimed(one)
        tasks.cancel_scope.cancel()
    assert [name async for name in store.redis.scan_iter(old.prefix + "*", count=1000)] == []
    assert 0 < await store.redis.ttl(store.keys.operation(1000, "1199")) <= 1000
    assert await store.redis.get(store.keys.sequence) == b"8"  # The event that says so.
    assert await store.redis.hget(MACHINES, after.id) == store.keys.host.encode()


async def test_a_claim_that_is_wiped_is_had_again(store: Store) -> None:
    """After a wipe, the service claims its name again without waiting."""
    one = identity(store, some_machine())
    async with anyio.create_task_group() as tasks:
        await tasks.start(one.run)
        await store.redis.delete(store.keys.scan)
        await one.hold()  # It raises if it has to be waited for.
        assert await owner(store) == one.machine.text
        await store.redis.hset(store.keys.scan, "owner", some_machine().text)
        with pytest.raises(StoreDown):
            await one.hold()
        assert store.refusal
        tasks.cancel_scope.cancel()


@pytest.fixture
def cluster(folder: Path) -> Iterator[str]:
    """A Redis Cluster of one node, which has all slots."""
    words = ("--bind", "127.0.0.1", "--cluster-enabled", "yes")
    server = start(folder / "c", "--port", str(free_port()), *words)
    with Redis(unix_socket_path=str(folder / "c")) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        until(lambda: b"cluster_state:ok" in _info(client))
    yield f"unix://{folder}/c"
    server.kill()
    server.wait()


def _info(client: Any) -> bytes:
    answer = client.connection_pool.get_connection()
    answer.send_command("CLUSTER", "INFO")
    text: bytes = answer.read_response()
    client.connection_pool.release(answer)
    return text


async def test_on_a_cluster_a_rename_is_refused_with_the_remedy(cluster: str) -> None:
    """In a Cluster, state is not moved to another name, and the error says which name to keep."""
    store, old = Store(cluster, "new"), Keys("old")
    machine = some_machine("bb" * 16)
    await store.redis.hset(old.scan, "owner", machine.text)
    await store.redis.hset(MACHINES, machine.id, "old")
    with pytest.raises(NameTaken, match='set `host = "old"`'):
        await identity(store, machine).run()
    assert await store.redis.exists(old.scan)
    await store.close()
