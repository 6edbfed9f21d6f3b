"""Connecting to Redis takes longer than anybody waits for an answer: it succeeds all the same."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.ports import free_port
from support.redis_lab import DURABLE, Server

from canhazgpu.events.redis_client.store import Store, StoreDown

pytestmark = pytest.mark.anyio
PATIENCE = 0.1  # Seconds that each caller waits.
SLOW = 0.5  # Seconds until a server answers.
SENTINEL = "sentinel monitor gpus 127.0.0.1 {port} 1\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server."""
    server = Server(tmp_path, *DURABLE)
    yield server
    server.close()


@pytest.fixture
def sentinel(server: Server, tmp_path: Path) -> Iterator[Server]:
    """A Sentinel that knows the server."""
    settings = tmp_path / "sentinel.conf"
    settings.write_text(SENTINEL.format(port=server.port))
    sentinel = Server(tmp_path, str(settings), "--sentinel", port=free_port())
    yield sentinel
    sentinel.close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where nothing is ever answered, as on a host that is switched off."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def answers(store: Store) -> None:
    """Return when a store answers a caller who waits for PATIENCE only."""
    with anyio.fail_after(60):
        while True:
            try:
                await store.ready(PATIENCE)
            except StoreDown:
                continue
            break
    await store.close()


async def test_a_slow_way(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt goes on when its caller has given up, so a later caller finds it done."""
    store = Store(f"redis://127.0.0.1:{server.port}", "h")
    ping = store.redis.ping

    async def slowly() -> Any:
        await anyio.sleep(SLOW)
        return await ping()

    monkeypatch.setattr(store.redis, "ping", slowly)
    await answers(store)


async def test_a_sentinel_that_is_switched_off(sentinel: Server, silent: int) -> None:
    """If the first Sentinel does not answer, the next one is asked, however soon callers give up."""
    await answers(Store(f"redis+sentinel://127.0.0.1:{silent},127.0.0.1:{sentinel.port}/gpus", "h"))
