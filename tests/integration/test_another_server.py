"""A restarted Redis may have lost its last second, so it is compared with the journal before it is used."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis_lab import DURABLE, Server
from support.reservations import Lab

from canhazgpu.events.redis_client.store import NEVER, Store
from canhazgpu.service.recovery.reconciliation import Reconciler
from canhazgpu.service.storage.journal import Journal

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that keeps what it acknowledges."""
    server = Server(tmp_path, *DURABLE)
    yield server
    server.close()


async def test_a_server_that_was_started_anew(server: Server, tmp_path: Path) -> None:
    """At first no script works on its data; after the comparison, the next grant succeeds."""
    store = Store(f"redis://127.0.0.1:{server.port}", "h")
    lab = Lab(store)
    reconciler = Reconciler(store, Journal(tmp_path / "journal"))
    await reconciler.start()
    await reconciler.sync()
    lab.allocator.begin = reconciler.begin
    first = await lab.reserve()
    assert store.fencing_token is not None
    assert store.fencing_token.sequence < NEVER
    server.kill()
    server.start()
    await store.redis.connection_pool.disconnect()
    assert await store.redis.incrby(store.keys.sequence, 100) > 100
    assert store.fencing_token.sequence == NEVER
    await lab.scan()
    second = await lab.reserve(gpus=(1,))
    assert first != second
    assert store.fencing_token.sequence < NEVER
    await store.close()
