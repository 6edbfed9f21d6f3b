"""Waits for a command so that the wait can always be cancelled.

redis-py sends with asyncio.wait_for. Before Python 3.12, that can lose a cancellation (CPython gh-86296), and
a read that blocks would go on. A cancel scope of anyio cancels again; a plain task is cancelled only once.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

AGAIN = 0.1  # Seconds.
Answer = TypeVar("Answer")


async def cancellable(command: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what the command returns. If this is cancelled, the command ends too."""
    task = asyncio.ensure_future(command)
    try:
        await asyncio.wait({task})
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=AGAIN)
    return task.result()


def check_cancelled() -> None:
    """Raise CancelledError if this task was cancelled and a library has lost that."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError
