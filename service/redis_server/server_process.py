"""Waits for the process of a Redis server to answer, and ends it."""

import contextlib
import time

import anyio
from anyio.abc import Process
from redis.exceptions import RedisError

from canhazgpu.events.redis_client.store import Store, StoreDown

SHUTDOWN_PATIENCE = 1.0  # Seconds for the command that ends the server.


async def end(process: Process, store: Store) -> None:
    """End the server. It obeys a command at once, and a signal only when it wakes up by itself."""
    if process.returncode is None:
        with anyio.move_on_after(SHUTDOWN_PATIENCE), contextlib.suppress(RedisError, OSError):
            await store.redis.shutdown(nosave=True)  # Every write is in the append-only file.
            await process.wait()  # To signal a process that has just ended takes its status from who waits.
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(5):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.wait()


async def answers(store: Store, process: Process, patience: float | None) -> bool:
    """Wait until the server answers; return False if it has ended or did not answer within `patience`."""
    deadline = time.monotonic() + patience if patience else None
    while process.returncode is None and (deadline is None or time.monotonic() < deadline):
        with contextlib.suppress(StoreDown):
            await store.ready(0.2)
            return True
    return False
